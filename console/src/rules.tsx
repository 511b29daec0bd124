// What alerts come of, and whom they are told: rules, and channels with what could not be delivered.

import { useState } from 'preact/hooks';
import { api } from './api';
import type { AlertRule, Channel, DeadLetter, RuleTold } from './api';
import { FormDialog } from './fields';
import { NEW_CHANNEL, NEW_RULE, RULE_FIELDS, channelFields, channelOf, ruleOf, ruleValues } from './forms';
import type { Values } from './forms';
import { clean, severityTone, spanOf } from './format';
import { t } from './i18n';
import type { Key } from './i18n';
import { may, toast } from './state';
import { Act, Age, Confirm, Failed, Panel, Rows, Sign, useLoaded } from './widgets';
import type { Question } from './widgets';

/** What the form of a rule is about, without what the master adds. */
function own({ builtin, problem, ...rule }: RuleTold): AlertRule {
  return rule;
}

export function Rules() {
  const { value, error, again } = useLoaded(api.alertRules, []);
  const [edited, setEdited] = useState<Values | null>(null);
  const [asked, setAsked] = useState<Question | null>(null);
  const generation = value?.generation ?? 0;
  const apply = (rule: AlertRule) => api.applyRules([rule], generation).then(again);
  const switching = (rule: RuleTold): Question => ({
    title: t(rule.disabled ? 'switchOn' : 'switchOff'),
    ask: t(rule.disabled ? 'switchOnAsk' : 'switchOffAsk', { name: clean(rule.name) }),
    act: () => apply({ ...own(rule), disabled: !rule.disabled }),
  });
  const deleting = ({ name }: RuleTold): Question => ({
    title: t('deleteRule'),
    ask: t('deleteRuleAsk', { name: clean(name) }),
    danger: true,
    act: () => api.deleteRule(name).then(again),
  });
  return (
    <>
      {may('admin') && (
        <div class="buttons">
          <button type="button" class="main" onClick={() => setEdited(NEW_RULE)}>
            {t('newRule')}
          </button>
        </div>
      )}
      {error && <Failed why={error} again={again} />}
      <Rows name="rules" heads={['rule', 'severity', 'state', 'f_when']} acts={may('admin')}>
        {value?.rules.map((rule) => (
          <tr key={rule.name} data-rule={rule.name} data-on={!rule.disabled}>
            <th scope="row">
              {clean(rule.name)}
              <div class="image">{t(rule.builtin ? 'builtIn' : 'ownRule')}</div>
            </th>
            <td>
              <SeverityOf severity={rule.severity} />
            </td>
            <td>
              {t(rule.disabled ? 'isOff' : 'isOn')}
              {rule.problem && <div class="image">{clean(rule.problem)}</div>}
            </td>
            <td class="text">
              <code>{clean(rule.when)}</code>
              <div class="image">
                {rule.on}
                {rule.for ? `, ${t('forAge', { age: spanOf(rule.for) })}` : ''}
              </div>
            </td>
            {may('admin') && (
              <td>
                <div class="buttons">
                  <Act words="edit" name={rule.name} act={() => setEdited(ruleValues(own(rule)))} />
                  <Act words={rule.disabled ? 'switchOn' : 'switchOff'} name={rule.name} act={() => setAsked(switching(rule))} />
                  {!rule.builtin && <Act words="deleteRule" name={rule.name} danger act={() => setAsked(deleting(rule))} />}
                </div>
              </td>
            )}
          </tr>
        ))}
      </Rows>
      {edited && (
        <FormDialog
          title={edited.name ? `${t('rule')}: ${clean(edited.name)}` : t('newRule')}
          fields={() => RULE_FIELDS}
          values={edited}
          check={(values) => api.checkRules([ruleOf(values)])}
          apply={(values) => apply(ruleOf(values)).then(() => toast('ok', t('done', { what: values.name ?? '' })))}
          close={() => setEdited(null)}
        />
      )}
      {asked && <Confirm question={asked} close={() => setAsked(null)} />}
    </>
  );
}

export function Channels() {
  const { value, error, again } = useLoaded(api.alertChannels, []);
  const [edited, setEdited] = useState<Values | null>(null);
  const [asked, setAsked] = useState<Question | null>(null);
  const testing = ({ name }: Channel): Question => ({
    title: t('testChannel'),
    ask: t('testChannelAsk', { name: clean(name) }),
    act: () => api.testChannel(name).finally(again),
  });
  const switching = ({ name, disabled }: Channel): Question => ({
    title: t(disabled ? 'switchOn' : 'switchOff'),
    ask: t(disabled ? 'channelOnAsk' : 'channelOffAsk', { name: clean(name) }),
    act: () => api.switchChannel(name, !disabled).then(again),
  });
  const resending = ({ id, channel, message }: DeadLetter): Question => ({
    title: t('resendLetter'),
    ask: t('resendLetterAsk', { channel: clean(channel), message: clean(message) }),
    act: () => api.resendLetter(id).finally(again),
  });
  const clearing = ({ id, channel, message }: DeadLetter): Question => ({
    title: t('clearLetter'),
    ask: t('clearLetterAsk', { channel: clean(channel), message: clean(message) }),
    danger: true,
    act: () => api.clearLetter(id).finally(again),
  });
  const deleting = ({ name }: Channel): Question => ({
    title: t('deleteChannel'),
    ask: t('deleteChannelAsk', { name: clean(name) }),
    danger: true,
    act: () => api.deleteChannel(name).then(again),
  });
  return (
    <>
      <p class="muted">{t('channelsHelp')}</p>
      {may('admin') && (
        <div class="buttons">
          <button type="button" class="main" onClick={() => setEdited(NEW_CHANNEL)}>
            {t('newChannel')}
          </button>
        </div>
      )}
      {error && <Failed why={error} again={again} />}
      <Rows
        name="channels"
        heads={['channel', 'severity', 'state', 'waiting']}
        acts={may('admin')}
        below={value?.channels.length === 0 && <p class="empty">{t('noChannels')}</p>}
      >
        {value?.channels.map((channel) => (
          <tr key={channel.name} data-channel={channel.name} data-on={!channel.disabled}>
            <th scope="row">
              {clean(channel.name)}
              <div class="image">
                {channel.kind} {clean(channel.target)}
              </div>
            </th>
            <td>
              <SeverityOf severity={channel.severity} />
              {channel.only && <div class="image">{clean(channel.only)}</div>}
            </td>
            <td class="text">
              {t(channel.disabled ? 'isOff' : 'isOn')}
              {channel.problem && <div class="image">{clean(channel.problem)}</div>}
            </td>
            <td class="number">{channel.waiting}</td>
            {may('admin') && (
              <td>
                <div class="buttons">
                  <Act words="testChannel" name={channel.name} act={() => setAsked(testing(channel))} />
                  <Act words="replace" name={channel.name} act={() => setEdited(replacing(channel))} />
                  <Act words={channel.disabled ? 'switchOn' : 'switchOff'} name={channel.name} act={() => setAsked(switching(channel))} />
                  <Act words="deleteChannel" name={channel.name} danger act={() => setAsked(deleting(channel))} />
                </div>
              </td>
            )}
          </tr>
        ))}
      </Rows>
      {value && value.dead_letters.length > 0 && (
        <Panel title={t('deadLetters')}>
          <ul class="silences">
            {value.dead_letters.map((letter) => (
              <li key={letter.id} data-letter={letter.id}>
                <div>
                  <b>{clean(letter.channel)}</b> {clean(letter.message)} <Age at={letter.given_up_at} words="ago" />
                  <div class="muted">{clean(letter.why)}</div>
                </div>
                <div class="buttons">
                  <Act words="resendLetter" name={letter.id} act={() => setAsked(resending(letter))} />
                  <Act words="clearLetter" name={letter.id} danger act={() => setAsked(clearing(letter))} />
                </div>
              </li>
            ))}
          </ul>
        </Panel>
      )}
      {edited && (
        <FormDialog
          title={edited.name ? `${t('replace')}: ${clean(edited.name)}` : t('newChannel')}
          fields={channelFields}
          values={edited}
          apply={(values) => api.applyChannels([channelOf(values)]).then(() => (again(), toast('ok', t('done', { what: values.name ?? '' }))))}
          close={() => setEdited(null)}
        />
      )}
      {asked && <Confirm question={asked} close={() => setAsked(null)} />}
    </>
  );
}

/** What the master shows of it; where it goes, and its secrets, are given again. */
function replacing({ name, kind, severity, only, escalations, disabled, per_minute }: Channel): Values {
  const flag = (on: boolean) => (on ? 'true' : '');
  return { name, way: kind, severity, only, escalations: flag(escalations), disabled: flag(disabled), per_minute: String(per_minute) };
}

function SeverityOf({ severity }: { severity: RuleTold['severity'] }) {
  return (
    <span class="status">
      <Sign tone={severityTone(severity as 'info')} size={14} />
      {t(severity as Key)}
    </span>
  );
}
