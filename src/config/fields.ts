import * as z from 'zod';
import { isIP, type Parsed, parseEndpoint, parseIdentifier } from './address.ts';
import { DURATION, formatDuration, parseDuration } from './duration.ts';
import { didYouMean } from './suggestion.ts';

/**
 * A map with fixed keys. An unknown one is refused with one line of message per key, in the order of
 * `issue.keys`; `later` explains the keys that are planned and do not exist yet.
 */
export function section<Shape extends z.core.$ZodShape>(
  shape: Shape,
  { expected, later = {} }: { expected: string; later?: Readonly<Record<string, string>> },
) {
  const known = Object.keys(shape);
  const refuse = (key: string): string => {
    const planned = Object.hasOwn(later, key) ? later[key] : undefined;
    if (planned !== undefined) return `does not exist in kacme yet: ${planned}`;
    return `unknown key${didYouMean(key, known) || `; expected one of ${known.join(', ')}`}`;
  };
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys' ? issue.keys.map(refuse).join('\n') : `expected ${expected}`,
  });
}

/** In characters. */
export const LONGEST_NAME = 63;

const NAME = new RegExp(`^[a-z0-9][a-z0-9._-]{0,${LONGEST_NAME - 1}}$`);

/** A map whose keys are names that the operator chooses. The names become keys of the store. */
export function named<Value extends z.core.$ZodType>(value: Value, noun: string) {
  return z.record(
    z.string().regex(NAME, `expected a name of lower-case letters, digits, dots, hyphens and underscores`),
    value,
    { error: `expected a map of ${noun}` },
  );
}

export function text(expected: string, pattern: RegExp) {
  return z.string({ error: `expected ${expected}` }).regex(pattern, `expected ${expected}`);
}

/** A text that `parse` turns into something better. */
export function parsed<Value>(
  expected: string | ((input: unknown) => string),
  parse: (text: string) => Parsed<Value>,
) {
  const error = ({ input }: { input?: unknown }) =>
    `expected ${typeof expected === 'string' ? expected : expected(input)}`;
  return z.string({ error }).transform((input, context): Value => {
    const outcome = parse(input);
    if ('value' in outcome) return outcome.value;
    context.issues.push({ code: 'custom', input, message: outcome.problem });
    return z.NEVER;
  });
}

export function oneOf<const Values extends readonly [string, ...string[]]>(values: Values) {
  return z.enum(values, {
    error: ({ input }) =>
      `expected one of ${values.join(', ')}${typeof input === 'string' ? didYouMean(input, values) : ''}`,
  });
}

export function whole(minimum: number, maximum: number) {
  const error = `expected a whole number from ${minimum} to ${maximum}`;
  return z.int({ error }).min(minimum, error).max(maximum, error);
}

export function flag() {
  return z.boolean({
    error: ({ input }) =>
      typeof input === 'string' && /^(?:yes|no|on|off)$/i.test(input)
        ? 'expected true or false: YAML 1.2 reads yes, no, on and off as text'
        : 'expected true or false',
  });
}

/** Milliseconds, from a text with a unit. */
export function duration({ min, max, why = '' }: { min: string; max: string; why?: string }) {
  const expected = 'expected a duration with a unit, such as "500ms", "20s", "12h" or "30d"';
  const [minMs, maxMs] = [parseDuration(min), parseDuration(max)];
  return z
    .string({ error: expected })
    .regex(DURATION, expected)
    .transform((input, context): number => {
      const ms = parseDuration(input);
      if (ms >= minMs && ms <= maxMs) return ms;
      const bounds = `${formatDuration(minMs)} to ${formatDuration(maxMs)}`;
      context.issues.push({ code: 'custom', input, message: `expected a duration from ${bounds}${why}` });
      return z.NEVER;
    });
}

/** An absolute path without detours: what is checked is what is opened. */
export function absolutePath(example: string) {
  return parsed(`an absolute path, such as ${example}`, (path) => {
    const problem = pathProblem(path);
    return problem === undefined ? { value: path } : { problem };
  });
}

/** The path of a UNIX socket: `sun_path` of unix(7) holds 107 bytes and a NUL. */
export function socketPath(example: string) {
  return parsed(`the absolute path of a UNIX socket, such as ${example}`, (path) => {
    const problem = pathProblem(path) ?? socketProblem(path);
    return problem === undefined ? { value: path } : { problem };
  });
}

/** A path as an argument of HAProxy's runtime API, which splits at spaces and semicolons. */
export function haproxyPath(example: string) {
  return parsed(`an absolute path, such as ${example}`, (path) => {
    const problem = pathProblem(path);
    if (problem !== undefined) return { problem };
    if (/^[\w./@%+=:,-]+$/.test(path)) return { value: path };
    return { problem: "HAProxy's runtime API takes only letters, digits and ./_-@%+=:, in a path" };
  });
}

export function socketProblem(path: string): string | undefined {
  if (Buffer.byteLength(path) <= 107) return undefined;
  return 'the path of a UNIX socket has at most 107 bytes';
}

function pathProblem(path: string): string | undefined {
  if (!path.startsWith('/')) return 'expected an absolute path';
  if (/\p{Cc}/u.test(path)) return 'a path holds no control characters';
  if (path.split('/').some((step) => step === '.' || step === '..'))
    return 'a path holds no "." or ".." here';
  if (/\/$|\/\//.test(path)) return 'a path holds no empty step: one "/" between names, none at the end';
  return undefined;
}

/** `https:` (or also `http:`), without a password: URLs are logged. */
export function url(schemes: readonly string[], example: string) {
  const expected = `${schemes.join(' or ')} URL, such as ${example}`;
  return parsed(`an ${expected}`, (input) => {
    if (!URL.canParse(input)) return { problem: `expected an ${expected}` };
    const { protocol, username, password } = new URL(input);
    if (!schemes.includes(protocol.slice(0, -1))) return { problem: `expected an ${expected}` };
    if (username !== '' || password !== '') {
      return { problem: 'a URL holds no user name or password here: it is logged' };
    }
    return { value: input };
  });
}

/** An address whose port has a key of its own. */
export function addressAlone(example: string) {
  return parsed(`an address without a port, such as ${example}`, (input) => {
    const endpoint = parseEndpoint(input);
    if ('problem' in endpoint) return endpoint;
    const { host, port } = endpoint.value;
    return port === undefined ? { value: host } : { problem: 'give the port beside it, as `port`' };
  });
}

export const identifier = () => parsed('a DNS name or an IP address', parseIdentifier);

export const listen = (example: string) =>
  parsed(`an address and a port to listen on, such as "${example}"`, (input) => {
    const endpoint = parseEndpoint(input);
    if ('problem' in endpoint)
      return { problem: `expected "HOST:PORT", such as "${example}": ${endpoint.problem}` };
    const { host, port } = endpoint.value;
    return port === undefined
      ? { problem: `expected a port too, such as "${example}"` }
      : { value: { host, port } };
  });

/** The address of a resolver; its port is 53 unless it is given. */
export const dnsServer = () =>
  parsed('the address of a DNS resolver, such as "10.0.0.2" or "[2606:4700::1111]:53"', (input) => {
    const endpoint = parseEndpoint(input);
    if ('problem' in endpoint) return endpoint;
    const { host, port = 53 } = endpoint.value;
    return !isIP(host)
      ? { problem: 'expected an IP address: who could look up the name of a resolver?' }
      : { value: { host, port } };
  });

/** A secret is never written into the configuration, only where it is. */
export const SecretReference = section(
  {
    file: absolutePath('/etc/kacme/secret').optional().describe('A file that only kacme can read.'),
    env: text('the name of an environment variable', /^[A-Za-z_]\w*$/)
      .optional()
      .describe('An environment variable.'),
  },
  { expected: 'a reference, { file: PATH } or { env: NAME }: a secret itself never stands in this file' },
)
  .transform(({ file, env }, context) => {
    if (file !== undefined && env === undefined) return { file };
    if (env !== undefined && file === undefined) return { env };
    context.issues.push({ code: 'custom', input: undefined, message: 'expected either file or env' });
    return z.NEVER;
  })
  .meta({ minProperties: 1, maxProperties: 1 });
