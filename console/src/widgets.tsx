// Small pieces that every page uses: signs, ages, dialogs, boxes.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Node } from './api';
import { Problem } from './api';
import type { Tone } from './format';
import { clean, span, toneOf } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { link, since, toast } from './state';

/** A state told by shape and by colour, in a square of 16. */
export function Sign({ tone, x = 0, y = 0, size = 16 }: { tone: Tone; x?: number; y?: number; size?: number }) {
  return (
    <svg class={`sign ${tone}`} x={x} y={y} width={size} height={size} viewBox="0 0 16 16" aria-hidden="true">
      {SHAPES[tone]}
    </svg>
  );
}

const SHAPES: Record<Tone, ComponentChildren> = {
  ok: (
    <>
      <circle class="fill" cx="8" cy="8" r="7" />
      <path class="mark" d="M4.8 8.2l2.2 2.2 4.2-4.6" />
    </>
  ),
  warn: (
    <>
      <path class="fill" d="M8 1.2 15.3 14a.6.6 0 0 1-.5.9H1.2A.6.6 0 0 1 .7 14z" />
      <path class="mark" d="M8 6v4M8 12.2v.3" />
    </>
  ),
  bad: (
    <>
      <path class="fill" d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" />
      <path class="mark" d="M5.3 5.3l5.4 5.4M10.7 5.3l-5.4 5.4" />
    </>
  ),
  wait: <circle class="ring" cx="8" cy="8" r="6" />,
  care: (
    <>
      <path class="fill" d="M8 .6 15.4 8 8 15.4.6 8z" />
      <path class="mark" d="M6.3 5.8v4.4M9.7 5.8v4.4" />
    </>
  ),
  idle: (
    <>
      <rect class="fill" x="1.5" y="1.5" width="13" height="13" rx="3" />
      <path class="mark" d="M5 8h6" />
    </>
  ),
};

export function statusWords(node: Node): string {
  return node.status === 'Ready' && node.conditions.length > 0 ? t('readyBut') : t(`s_${node.status}` as Key);
}

export function StatusOf({ node }: { node: Node }) {
  return (
    <span class="status">
      <Sign tone={toneOf(node)} />
      <span>{node.status}</span>
      <span class="visually-hidden">, {statusWords(node)}</span>
    </span>
  );
}

/** `5m30s`, and the moment itself to whoever points at it; what may be to come says how. */
export function Age({ at, words, coming }: { at: string | null | undefined; words?: 'ago' | 'forAge'; coming?: 'inAge' | 'expiresIn' | 'endsIn' | 'dueIn' }) {
  const exact = since(at);
  if (exact === null) return <span>{t('never')}</span>;
  // what has happened is not to come, by however little clocks differ
  const isToCome = coming !== undefined && exact < 0;
  const text = span(isToCome ? -exact : exact);
  const told = isToCome ? t(coming, { age: text }) : words ? t(words, { age: text }) : text;
  return (
    <time dateTime={at ?? ''} title={moment(at)}>
      {told}
    </time>
  );
}

/** What a node without a session runs now is not known. */
export function LastKnown({ node }: { node: Node }) {
  if (node.connected || node.containers.length === 0) return null;
  return (
    <p class="note warn">
      {t('lastKnown')} <Age at={node.containers_at} words="ago" />
    </p>
  );
}

/** In UTC, as logs have it. */
export function moment(at: string | null | undefined): string {
  const then = at ? new Date(at) : null;
  return then && !Number.isNaN(then.getTime()) ? then.toISOString().replace('T', ' ').replace(/\.\d+Z$/, 'Z') : '-';
}

/** The name of an image, which is broken between its parts where it has to be. */
export function breakable(image: string): ComponentChildren {
  return image.split(/(?<=[/:@])/).flatMap((part, i) => (i === 0 ? [part] : [<wbr key={i} />, part]));
}

export function Panel({ title, aside, wide, children }: { title: string; aside?: ComponentChildren; wide?: boolean; children: ComponentChildren }) {
  return (
    <section class={wide ? 'panel wide' : 'panel'}>
      <header>
        <h2>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

/** Pages that belong together. */
export function Parts({ of, here }: { of: { path: string[]; name: Key }[]; here: Key }) {
  return (
    <nav class="chips" aria-label={t('parts')}>
      {of.map(({ path, name }) => (
        <a key={name} class="button chip" href={link(...path)} aria-current={name === here ? 'page' : undefined}>
          {t(name)}
        </a>
      ))}
    </nav>
  );
}

interface RowsProps {
  name: Key;
  heads: Key[];
  /** A last column is of buttons: its head is for those who do not see them. */
  acts?: boolean;
  /** Heads are buttons, which sort by their column. */
  sort?: { by: number; isDown: boolean; choose: (column: number) => void };
  /** Said below the table. */
  below?: ComponentChildren;
  children: ComponentChildren;
}

/** A table, scrolled by itself where it is too wide; where there is little room each row is a card, with the heads beside its cells. */
export function Rows({ name, heads, acts, sort, below, children }: RowsProps) {
  // the style sheet writes them before the cells of a card
  const beside = Object.fromEntries(heads.map((head, i) => [`--head-${i + 1}`, JSON.stringify(t(head))]));
  return (
    <div class="scroll" tabindex={0} role="region" aria-label={t(name)}>
      <table class={`rows${sort ? ' sorts' : ''}${acts ? ' acts' : ''}`} style={beside}>
        <thead>
          <tr>
            {heads.map((head, i) =>
              sort ? (
                <th key={head} scope="col" aria-sort={i === sort.by ? (sort.isDown ? 'descending' : 'ascending') : 'none'}>
                  <button type="button" class="plain" onClick={() => sort.choose(i)}>
                    {t(head)}
                    <span aria-hidden="true">{i === sort.by ? (sort.isDown ? ' ↓' : ' ↑') : ''}</span>
                  </button>
                </th>
              ) : (
                <th key={head} scope="col">
                  {t(head)}
                </th>
              ),
            )}
            {acts && (
              <th scope="col">
                <span class="visually-hidden">{t('actions')}</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
      {below}
    </div>
  );
}

/** What may be done to a row, by a button of its last column. */
export function Act({ words, name, danger, act }: { words: Key; name: string; danger?: boolean; act: () => void }) {
  return (
    <button type="button" class={danger ? 'small danger' : 'small'} aria-label={`${t(words)}: ${clean(name)}`} onClick={act}>
      {t(words)}
    </button>
  );
}

export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {of.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Something the master is asked for; its answer, or why there is none. */
export function useLoaded<T>(load: () => Promise<T>, on: unknown[]): { value: T | null; error: string; again: () => void } {
  const [value, setValue] = useState<T | null>(null);
  const [error, setError] = useState('');
  const [count, setCount] = useState(0);
  useEffect(() => {
    let current = true;
    load().then(
      (loaded) => current && (setValue(loaded), setError('')),
      (failure: Error) => current && setError(failure.message),
    );
    return () => {
      current = false;
    };
  }, [...on, count]);
  return { value, error, again: () => setCount(count + 1) };
}

export function Failed({ why, again }: { why: string; again: () => void }) {
  return (
    <p class="note bad" role="alert">
      {t('failed', { why })}{' '}
      <button type="button" onClick={again}>
        {t('again')}
      </button>
    </p>
  );
}

export interface Question {
  title: string;
  ask: string;
  /** What has to be typed before it can be done. */
  mustType?: string;
  field?: { label: string; value: string };
  /** One of these; the first unless another is chosen. */
  choice?: { label: string; of: [string, string][] };
  danger?: boolean;
  act: (text: string, choice: string) => Promise<{ message?: string } | unknown>;
}

/** Asks, does it, and tells what became of it; open as long as there is a question. */
export function Confirm({ question, close }: { question: Question; close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState(question.field?.value ?? '');
  const [choice, setChoice] = useState(question.choice?.of[0]?.[0] ?? '');
  const [working, setWorking] = useState(false);
  const [refused, setRefused] = useState('');
  useEffect(() => dialog.current?.showModal(), []);
  const submit = async (event: Event) => {
    event.preventDefault();
    setWorking(true);
    setRefused('');
    try {
      const answer = (await question.act(text.trim(), choice)) as { message?: string } | undefined;
      toast('ok', t('done', { what: answer?.message || question.title }));
      close();
    } catch (error) {
      setRefused(error instanceof Problem ? error.message : String(error));
      setWorking(false);
    }
  };
  const isTyped = question.mustType === undefined || text.trim() === question.mustType;
  return (
    <dialog ref={dialog} class="ask" aria-labelledby="ask-title" onClose={close}>
      <form onSubmit={submit}>
        <h2 id="ask-title">{question.title}</h2>
        <p>{question.ask}</p>
        {question.choice && (
          <label>
            {question.choice.label}
            <select value={choice} onChange={(event) => setChoice(event.currentTarget.value)}>
              {question.choice.of.map(([value, words]) => (
                <option key={value} value={value}>
                  {words}
                </option>
              ))}
            </select>
          </label>
        )}
        {(question.field || question.mustType !== undefined) && (
          <label>
            {question.mustType === undefined ? question.field?.label : t('removeType', { name: question.mustType })}
            <input value={text} autocomplete="off" onInput={(event) => setText(event.currentTarget.value)} />
          </label>
        )}
        {refused && (
          <p class="note bad" role="alert">
            {t('refused', { why: refused })}
          </p>
        )}
        <div class="buttons">
          <button type="button" onClick={() => dialog.current?.close()}>
            {t('cancel')}
          </button>
          <button type="submit" class={question.danger ? 'danger' : 'main'} disabled={working || !isTyped}>
            {working ? t('working') : question.title}
          </button>
        </div>
      </form>
    </dialog>
  );
}

export function CopyBox({ label, text }: { label: string; text: string }) {
  const [copied, setCopied] = useState(false);
  const code = useRef<HTMLElement>(null);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), 2_000);
    } catch {
      // the browser does not let us: whoever pressed has only to copy what is chosen now
      if (code.current) getSelection()?.selectAllChildren(code.current);
    }
  };
  return (
    <div class="copy">
      <code ref={code} tabindex={0} aria-label={label}>
        {text}
      </code>
      <button type="button" onClick={copy}>
        {copied ? t('copied') : t('copy')}
      </button>
    </div>
  );
}
