// Fixed file names and no source maps: `dist` is checked in, embedded by the master, and compared byte by byte
// with a fresh build in `cargo xtask test`.
import { defineConfig } from 'vite';
import { recorded } from './dev/recorded.mjs';

export default defineConfig({
  base: './',
  plugins: [recorded()],
  build: {
    target: ['chrome123', 'firefox121', 'safari17.5'],
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        entryFileNames: 'console.js',
        chunkFileNames: 'console-[name].js',
        assetFileNames: 'console[extname]',
      },
    },
  },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
} as never);
