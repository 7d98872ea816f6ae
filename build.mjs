import { chmod, rm } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const repository = dirname(fileURLToPath(import.meta.url));

/**
 * Bundles the command into few files: loading the libraries from a thousand files would take most of the time
 * until `kacme serve` is ready. What is imported lazily becomes a chunk of its own.
 *
 * @param {{ entry?: string, outdir?: string }} [options]
 * @returns {Promise<{ command: string, bytes: number }>}
 */
export async function bundle({
  entry = join(repository, 'src', 'main.ts'),
  outdir = join(repository, 'dist'),
} = {}) {
  await rm(outdir, { recursive: true, force: true });
  const { metafile } = await build({
    entryPoints: { kacme: entry },
    outdir,
    absWorkingDir: repository,
    chunkNames: 'chunks/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    // Less source text is less memory for as long as the service runs: 16 MB here.
    minifyWhitespace: true,
    minifySyntax: true,
    // Node prints the whole line of an uncaught error.
    lineLimit: 160,
    sourcemap: 'linked',
    sourcesContent: false,
    metafile: true,
    logLevel: 'warning',
    plugins: [lazyPackages],
    // Optional parts of ssh2; it does without them.
    external: ['cpu-features', '*.node'],
    // CommonJS libraries ask where they are; the answer need only be a directory.
    define: { __dirname: 'import.meta.dirname' },
    banner: {
      // CommonJS libraries ask for Node's own modules with require.
      js: `#!/usr/bin/env node
import { createRequire as kacmeCreateRequire } from 'node:module';
const require = kacmeCreateRequire(import.meta.url);`,
    },
  });
  const command = join(outdir, 'kacme.js');
  await chmod(command, 0o755);
  const scripts = Object.entries(metafile.outputs).filter(([path]) => path.endsWith('.js'));
  return { command, bytes: scripts.reduce((sum, [, { bytes }]) => sum + bytes, 0) };
}

/**
 * `await import('package')` of a CommonJS package has named exports in Node, where a lexer finds them, but only
 * `default` in a bundle. This asks Node for the names, so that both behave alike.
 *
 * @type {import('esbuild').Plugin}
 */
const lazyPackages = {
  name: 'lazy-packages',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^[@a-z]/ }, ({ kind, path }) =>
      kind === 'dynamic-import' && !isBuiltin(path) ? { path, namespace: 'lazy' } : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'lazy' }, async ({ path }) => {
      const names = Object.keys(await import(path)).filter((name) => /^[\w$]+$/.test(name));
      return {
        contents: `export { ${names.join(', ')} } from ${JSON.stringify(path)};`,
        resolveDir: repository,
      };
    });
  },
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { command, bytes } = await bundle();
  process.stdout.write(`${command}: ${Math.round(bytes / 1024)} kB with its chunks\n`);
}
