// A form of fields that a table describes, in a dialog: what the master refuses is said beside the field it speaks of.

import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { Problem } from './api';
import { EXPRESSIONS, placeOf } from './forms';
import type { Field, Values } from './forms';
import { clean } from './format';
import { t } from './i18n';
import type { Key } from './i18n';

interface Props {
  title: string;
  fields: (values: Values) => Field[];
  values: Values;
  /** Tried without a change. */
  check?: (values: Values) => Promise<unknown>;
  apply: (values: Values) => Promise<unknown>;
  close: () => void;
}

export function FormDialog({ title, fields, values: given, check, apply, close }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [values, setValues] = useState(given);
  const [working, setWorking] = useState(false);
  const [good, setGood] = useState(false);
  const [refused, setRefused] = useState<{ place: string | null; why: string } | null>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const shown = fields(values);
  const names = shown.map(({ name }) => name);
  const attempt = async (act: (values: Values) => Promise<unknown>, then: () => void) => {
    setWorking(true);
    setRefused(null);
    setGood(false);
    try {
      await act(values);
      then();
    } catch (error) {
      const { message } = error as Error;
      const field = error instanceof Problem ? error.field : undefined;
      const place = placeOf(field, names);
      // where it stands says already which field it is
      const why = place !== null && message.startsWith(`${field}: `) ? message.slice(`${field}: `.length) : message;
      setRefused({ place, why: clean(why, '\n') });
      dialog.current?.querySelector<HTMLElement>(`[name="${place}"]`)?.focus();
    }
    setWorking(false);
  };
  const submit = (event: Event) => {
    event.preventDefault();
    void attempt(apply, close);
  };
  const change = (name: string, value: string) => {
    setValues({ ...values, [name]: value });
    setGood(false);
  };
  return (
    <dialog ref={dialog} class="ask wide" aria-labelledby="form-title" onClose={close}>
      <form onSubmit={submit}>
        <h2 id="form-title">{title}</h2>
        <div class="fields">
          {shown.map((field) => (
            <FieldOf key={field.name} field={field} value={values[field.name] ?? ''} change={change}>
              {refused?.place === field.name && <Refused id={`why-${field.name}`} why={refused.why} />}
            </FieldOf>
          ))}
        </div>
        {refused && refused.place === null && <Refused id="why" why={refused.why} />}
        {good && (
          <p class="note" role="status">
            {t('wouldBeTaken')}
          </p>
        )}
        <div class="buttons">
          <button type="button" onClick={() => dialog.current?.close()}>
            {t('cancel')}
          </button>
          {check && (
            <button type="button" disabled={working} onClick={() => void attempt(check, () => setGood(true))}>
              {t('checkOnly')}
            </button>
          )}
          <button type="submit" class="main" disabled={working}>
            {t(working ? 'working' : 'apply')}
          </button>
        </div>
      </form>
    </dialog>
  );
}

function Refused({ id, why }: { id: string; why: string }) {
  return (
    <p id={id} class="note bad why" role="alert">
      {why}
    </p>
  );
}

interface FieldProps {
  field: Field;
  value: string;
  change: (name: string, value: string) => void;
  children: ComponentChildren;
}

function FieldOf({ field: { name, kind, of = [], like, required, helps }, value, change, children }: FieldProps) {
  const input = (event: { currentTarget: { value: string } }) => change(name, event.currentTarget.value);
  const words = t(`f_${name}` as Key);
  const shared = { name, value, placeholder: like, required, onInput: input, 'aria-invalid': children ? true : undefined, 'aria-describedby': children ? `why-${name}` : undefined } as const;
  if (kind === 'check') {
    return (
      <label class="inline full">
        <input type="checkbox" name={name} checked={value !== ''} onChange={(event) => change(name, event.currentTarget.checked ? 'true' : '')} />
        <span>{words}</span>
      </label>
    );
  }
  return (
    <div class={kind === 'area' ? 'full' : ''}>
      <label>
        {required ? `${words} *` : words}
        {kind === 'choice' && (
          <select name={name} value={value || of[0]} onInput={input} aria-invalid={shared['aria-invalid']} aria-describedby={shared['aria-describedby']}>
            {of.map((one) => (
              <option key={one} value={one}>
                {one}
              </option>
            ))}
          </select>
        )}
        {kind === 'area' && <textarea class="mono" rows={2} spellcheck={false} {...shared} />}
        {(kind === 'text' || kind === 'secret' || kind === 'number') && (
          <input type={kind === 'secret' ? 'password' : 'text'} inputmode={kind === 'number' ? 'numeric' : undefined} autocomplete={kind === 'secret' ? 'new-password' : 'off'} {...shared} />
        )}
      </label>
      {children}
      {helps && <ExpressionHelp />}
    </div>
  );
}

/** Beside the form, since a master may have no way to the internet and serves no guide. */
function ExpressionHelp() {
  return (
    <details class="help">
      <summary>{t('whenHelp')}</summary>
      <ul>
        {EXPRESSIONS.map(([on, expression]) => (
          <li key={expression}>
            <code>{expression}</code> <span class="muted">{on}</span>
          </li>
        ))}
      </ul>
      <p class="muted">{t('whenHelpText')}</p>
    </details>
  );
}
