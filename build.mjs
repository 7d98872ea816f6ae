import { randomUUID } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
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
  const { metafile, outputFiles } = await build({
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
    write: false,
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
  for (const { path, contents } of outputFiles) await replaceIfDifferent(path, contents);
  await removeOthers(outdir, new Set(outputFiles.map(({ path }) => path)));
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

/**
 * Never takes away what a running kacme may be about to load: builds of the same source do not disturb each other.
 *
 * @param {string} path
 * @param {Uint8Array} contents
 */
async function replaceIfDifferent(path, contents) {
  const present = await readFile(path).catch(() => undefined);
  if (present?.equals(contents)) return;
  const draft = `${path}.${randomUUID().slice(0, 8)}.tmp`;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(draft, contents, { mode: path.endsWith('.js') ? 0o755 : 0o644 });
  await rename(draft, path);
}

/**
 * @param {string} directory
 * @param {ReadonlySet<string>} kept
 */
async function removeOthers(directory, kept) {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  // Drafts belong to a build beside this one.
  const others = files.filter((path) => !kept.has(path) && !path.endsWith('.tmp'));
  await Promise.all(others.map((path) => rm(path, { force: true })));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { command, bytes } = await bundle();
  process.stdout.write(`${command}: ${Math.round(bytes / 1024)} kB with its chunks\n`);
}
