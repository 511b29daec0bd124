// What may be done to a node: only what its state and the role of whoever looks allow is shown at all.

import { useState } from 'preact/hooks';
import { api } from './api';
import type { Node } from './api';
import { clean } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { go, may } from './state';
import { Confirm } from './widgets';
import type { Question } from './widgets';

export function questionsOf(node: Node): Question[] {
  const name = clean(node.name);
  const questions: Question[] = [];
  if (may('operator')) {
    if (node.status === 'Pending') {
      questions.push(
        { title: t('approve'), ask: t('approveAsk', { name }), act: () => api.approve(node.id) },
        {
          title: t('reject'),
          ask: t('rejectAsk', { name }),
          field: { label: t('reasonLabel'), value: '' },
          danger: true,
          act: (reason) => api.reject(node.id, reason),
        },
      );
    }
    if (node.status === 'Ready' || node.status === 'NotReady') {
      questions.push({
        title: t('maintenanceOn'),
        ask: t('maintenanceOnAsk', { name }),
        field: { label: t('reasonLabel'), value: '' },
        act: (reason) => api.maintenance(node.id, true, reason),
      });
    }
    if (node.status === 'Maintenance') {
      questions.push({ title: t('maintenanceOff'), ask: t('maintenanceOffAsk', { name }), act: () => api.maintenance(node.id, false) });
    }
    if (node.connected) {
      questions.push(
        { title: t('check'), ask: t('checkAsk', { name }), act: () => api.check(node.id).then(() => undefined) },
        logLevelQuestion(node.id, name),
      );
    }
  }
  if (may('admin') && node.status !== 'Terminating') {
    questions.push({
      title: t('remove'),
      ask: t('removeAsk', { name }),
      mustType: node.name,
      danger: true,
      act: async () => {
        await api.remove(node.id);
        go('nodes');
      },
    });
  }
  return questions;
}

const LOG_SPANS: [number, Key, number][] = [
  [600, 'minutes', 10],
  [3_600, 'hours', 1],
  [86_400, 'hours', 24],
];

/** Of a node, or of `master`; by itself as it was, unless somebody chooses otherwise. */
export function logLevelQuestion(target: string, name: string): Question {
  return {
    title: t('logLevel'),
    ask: t('logLevelAsk', { name }),
    choice: { label: t('howLong'), of: [...LOG_SPANS.map(([seconds, unit, count]): [string, string] => [String(seconds), t(unit, { count })]), ['0', t('untilRestart')]] },
    field: { label: t('logFilter'), value: 'info' },
    act: (filter, seconds) => api.logLevel(target, filter, Number(seconds)),
  };
}

export function restartQuestion(node: Node, container: string): Question {
  return {
    title: t('restart'),
    ask: t('restartAsk', { name: clean(node.name), container: clean(container) }),
    act: () => api.restartContainer(node.id, container),
  };
}

/** Buttons; `few` leaves out what one does from the node's own page. */
export function ActionsOf({ node, few }: { node: Node; few?: boolean }) {
  const [asked, setAsked] = useState<Question | null>(null);
  const questions = questionsOf(node).filter((question) => !few || [t('approve'), t('maintenanceOn'), t('maintenanceOff')].includes(question.title));
  return (
    <>
      {questions.map((question) => (
        <button key={question.title} type="button" class={question.danger ? 'danger' : ''} onClick={() => setAsked(question)}>
          {question.title}
        </button>
      ))}
      {asked && <Confirm question={asked} close={() => setAsked(null)} />}
    </>
  );
}
