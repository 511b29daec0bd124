// The console starts here: who is looking, then the page that the address names.

import { render } from 'preact';
import { App } from './app';
import { start } from './state';
import './style.css';

void start();
render(<App />, document.getElementById('app') as HTMLElement);
