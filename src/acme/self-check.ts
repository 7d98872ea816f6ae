import { KacmeError } from '../domain/errors.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { SelfCheck } from '../ports/self-check.ts';
import { Deadline } from './deadline.ts';
import { readNetworkFailure } from './network-failure.ts';
import { fetchHop, type Hop, isRedirect } from './self-check-hop.ts';
import { quote } from './transport.ts';

const WITHIN_MS = 10_000;

/** As Let's Encrypt follows them: http-01 leaves port 80 only for 443, and not for ever. */
const MAX_REDIRECTS = 10;
const FOLLOWED_SCHEMES: ReadonlySet<string> = new Set(['http:', 'https:']);
const FOLLOWED_PORTS: ReadonlySet<string> = new Set(['', '80', '443']);

/**
 * The self-check that the configuration asks for; undefined when it is off. `direct` goes where the system's
 * resolver says; `via` goes to one address in place of the identifier's, where that resolves to something else
 * from here than from outside.
 */
export function createSelfCheck(setting: KacmeConfig['challenge']['selfCheck']): SelfCheck | undefined {
  if (setting === 'off') return undefined;
  const via = setting === 'direct' ? undefined : new URL(setting.via);
  return async (identifier, token, keyAuthorization, { signal }) => {
    const deadline = new Deadline(WITHIN_MS, { signal });
    const trail: string[] = [];
    try {
      await walk({ identifier, token, keyAuthorization, via, trail }, deadline.signal);
    } catch (error) {
      if (error instanceof KacmeError) throw error;
      signal.throwIfAborted();
      const reason = deadline.expired
        ? `no complete answer within ${WITHIN_MS / 1_000} s`
        : readNetworkFailure(error).reason;
      throw unreachable({ identifier, via, trail }, reason, { cause: error });
    } finally {
      deadline.clear();
    }
  };
}

interface Walk {
  readonly identifier: string;
  readonly token: string;
  readonly keyAuthorization: string;
  readonly via: URL | undefined;
  /** Every URL asked, in order. */
  readonly trail: string[];
}

async function walk(check: Walk, signal: AbortSignal): Promise<void> {
  const { identifier, token, keyAuthorization, via, trail } = check;
  const authority = identifier.includes(':') ? `[${identifier}]` : identifier;
  const first = new URL(`http://${authority}/.well-known/acme-challenge/${token}`);
  let url = first;
  for (let redirects = 0; ; redirects++) {
    trail.push(url.href);
    const hop = await fetchHop(url, url.hostname === first.hostname ? via : undefined, signal);
    if (!isRedirect(hop)) {
      // RFC 8555 section 8.3: white space at the end does not count.
      if (hop.status === 200 && hop.body.trimEnd() === keyAuthorization) return;
      throw unreachable(check, wrongAnswer(hop));
    }
    if (redirects === MAX_REDIRECTS) {
      throw unreachable(check, `more than ${MAX_REDIRECTS} redirects, where the CA gives up`);
    }
    url = followed(check, url, hop.location);
  }
}

function wrongAnswer({ status, body }: Hop): string {
  const answer = `HTTP ${status} and ${quote(body)}`;
  if (status !== 200) return `it answers ${answer}`;
  return `it answers ${answer}, which is not what kacme serves: the request went to somebody else`;
}

function followed(check: Walk, from: URL, location: string): URL {
  if (!URL.canParse(location, from.href)) {
    throw unreachable(check, `it redirects to ${quote(location)}, which is no URL`);
  }
  const url = new URL(location, from.href);
  if (!FOLLOWED_SCHEMES.has(url.protocol) || !FOLLOWED_PORTS.has(url.port)) {
    throw unreachable(check, `it redirects to ${url.href}, and the CA follows to ports 80 and 443 only`);
  }
  return url;
}

function unreachable(
  { identifier, via, trail }: Pick<Walk, 'identifier' | 'via' | 'trail'>,
  reason: string,
  options?: ErrorOptions,
): KacmeError {
  const path = trail.join(' -> ');
  const through = via === undefined ? '' : ` (via ${via.origin})`;
  return new KacmeError(
    'ERR_CHALLENGE_UNREACHABLE',
    `self-check of the challenge for ${identifier}: ${path}${through}: ${reason}. The CA was not asked`,
    {
      ...options,
      retry: 'later',
      remedy:
        via === undefined
          ? `let ${identifier} resolve to HAProxy, and let HAProxy forward /.well-known/acme-challenge/ on port 80 to challenge.listen, ahead of any redirect; where the name leads elsewhere from here, set challenge.selfCheck.via`
          : `let ${via.origin} be HAProxy's port 80, and let HAProxy forward /.well-known/acme-challenge/ to challenge.listen, ahead of any redirect`,
    },
  );
}
