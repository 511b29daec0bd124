// The only page for those who are not signed in.

import { useState } from 'preact/hooks';
import { Preferences } from './app';
import { clean } from './format';
import { t } from './i18n';
import { linkRefused, sessionEnded, signIn } from './state';

export function Login() {
  const [token, setToken] = useState('');
  const [working, setWorking] = useState(false);
  const [problem, setProblem] = useState('');
  document.title = 'PICCOLO';
  const submit = async (event: Event) => {
    event.preventDefault();
    setWorking(true);
    setProblem('');
    try {
      await signIn({ token: token.trim() });
    } catch (error) {
      setProblem(t('signInFailed', { why: clean((error as Error).message) }));
      setWorking(false);
    }
  };
  return (
    <main class="login">
      <form onSubmit={submit}>
        <img src="./icon.svg" alt="" width="56" height="56" />
        <h1>PICCOLO</h1>
        <p class="muted">{t('signInIntro')}</p>
        {sessionEnded.value && <p class="note warn">{t('signedOutByMaster')}</p>}
        {linkRefused.value && (
          <p class="note bad" role="alert">
            {t('codeFailed', { why: clean(linkRefused.value) })}
          </p>
        )}
        <label>
          {t('tokenLabel')}
          <input type="password" name="token" value={token} autocomplete="current-password" required onInput={(event) => setToken(event.currentTarget.value)} />
        </label>
        {problem && (
          <p class="note bad" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" class="main" disabled={working || token.trim() === ''}>
          {working ? t('working') : t('signIn')}
        </button>
        <div class="muted hint">
          {t('tokenHelp')}
          <code>piccolo console</code>
          <code>piccolo api-token create NAME --role ROLE</code>
        </div>
        <div class="preferences">
          <Preferences />
        </div>
      </form>
    </main>
  );
}
