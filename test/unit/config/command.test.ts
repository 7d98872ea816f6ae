import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { Command, CommanderError } from 'commander';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { configCommand } from '../../../src/cli/config.ts';
import { addGlobalOptions } from '../../../src/cli/global-options.ts';
import { STARTER_CONFIG } from '../../../src/config/starter.ts';
import { scratchDirectory } from '../../support/scratch.ts';
import { VALID } from './mistakes.ts';

/** Runs `kacme ARGUMENTS`; rejects as the program would. */
async function kacme(...words: string[]): Promise<{ stdout: string; stderr: string }> {
  const written = { stdout: '', stderr: '' };
  const stdout = new Writable({
    write(chunk, _encoding, done) {
      written.stdout += String(chunk);
      done();
    },
  });
  const program = addGlobalOptions(new Command('kacme')).addCommand(
    configCommand({ signal: new AbortController().signal, stdout }),
  );
  silence(program, (text) => {
    written.stderr += text;
  });
  await program.parseAsync(words, { from: 'user' });
  return written;
}

function silence(command: Command, writeErr: (text: string) => void): void {
  command.exitOverride().configureOutput({ writeErr, writeOut: writeErr });
  for (const child of command.commands) silence(child, writeErr);
}

async function configFile(text: string, name = 'kacme.yaml'): Promise<string> {
  const directory = await scratchDirectory();
  onTestFinished(() => directory.remove());
  const path = join(directory.path, name);
  await writeFile(path, text);
  return path;
}

describe('kacme config check', () => {
  test('takes --config before and after its own name, and says what it found', async () => {
    const file = await configFile(VALID);
    const expected = `${file}: valid (1 issuer, 1 certificate, 1 pool, 1 host, 1 deployment)\n`;
    expect((await kacme('--config', file, 'config', 'check')).stdout).toBe(expected);
    expect((await kacme('config', 'check', '--config', file)).stdout).toBe(expected);
  });

  test('overlays repeated files', async () => {
    const base = await configFile(VALID);
    const site = await configFile('pools: { lb: { hosts: [a, b, c] } }\n');
    const { stdout } = await kacme('config', 'check', '--config', base, '--config', site);
    expect(stdout).toBe(`${base}, ${site}: valid (1 issuer, 1 certificate, 1 pool, 3 hosts, 1 deployment)\n`);
  });

  test('fails with every mistake', async () => {
    const file = await configFile(VALID.replace('/p.pem', 'p.pem').replace('ecdsa-p256', 'dsa'));
    await expect(kacme('config', 'check', '--config', file)).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      issues: [{ line: 10 }, { line: 20 }],
    });
  });
});

describe('kacme config show', () => {
  test('prints YAML, or JSON that says the same', async () => {
    const file = await configFile(VALID);
    const yaml = await kacme('config', 'show', '--config', file);
    const json = await kacme('config', 'show', '--json', '--config', file);
    expect(JSON.parse(json.stdout)).toEqual(parse(yaml.stdout));
    expect(JSON.parse(json.stdout)).toMatchObject({ reconcile: { every: '20s' } });
  });
});

test('kacme config schema prints a JSON schema that refuses unknown keys', async () => {
  const { stdout } = await kacme('config', 'schema');
  expect(JSON.parse(stdout)).toMatchObject({
    $schema: 'http://json-schema.org/draft-07/schema#',
    additionalProperties: false,
    required: ['issuers', 'certificates', 'pools', 'deployments'],
  });
});

describe('kacme config init', () => {
  test('prints a configuration that passes kacme config check', async () => {
    const { stdout } = await kacme('config', 'init');
    expect(stdout).toBe(STARTER_CONFIG);
    const file = await configFile(stdout);
    await expect(kacme('config', 'check', '--config', file)).resolves.toBeDefined();
  });

  test('writes it to a new file that not everybody can read', async () => {
    const file = join(await configFile(''), '..', 'new.yaml');
    await kacme('config', 'init', file);
    expect(await readFile(file, 'utf8')).toBe(STARTER_CONFIG);
    expect((await stat(file)).mode & 0o007).toBe(0);
  });

  test('never changes a file that exists', async () => {
    const file = await configFile('mine: true\n');
    const failure = kacme('config', 'init', file);
    await expect(failure).rejects.toBeInstanceOf(CommanderError);
    await expect(failure).rejects.toMatchObject({
      exitCode: 2,
      message: expect.stringContaining(`${file}: it exists already`),
    });
    expect(await readFile(file, 'utf8')).toBe('mine: true\n');
  });
});

test.each(['check', 'show', 'schema', 'init'])(
  'kacme config %s --help gives an example and its exit statuses',
  async (name) => {
    const [command] = configCommand({
      signal: new AbortController().signal,
      stdout: new Writable(),
    }).commands.filter((candidate) => candidate.name() === name);
    const written: string[] = [];
    command?.configureOutput({ writeOut: (text) => void written.push(text) }).outputHelp();
    const help = written.join('');
    expect(help).toMatch(/Examples?:\n {2}kacme config/);
    expect(help).toMatch(/Exit status: 0 /);
  },
);
