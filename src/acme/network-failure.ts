/** What stands behind a connection or an exchange that failed, in words for people. */
export interface NetworkFailure {
  /** `protocol`: something answered, but not as HTTP demands. */
  readonly kind: 'unreachable' | 'trust' | 'protocol';
  readonly reason: string;
}

const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused: nothing listens there',
  ECONNRESET: 'the connection was reset by the other side',
  EPIPE: 'the connection was closed by the other side',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no route to the network',
  ETIMEDOUT: 'no answer to the connection attempt: packets are dropped, or the host is down',
  ENOTFOUND: 'the name does not exist in DNS',
  EAI_AGAIN: 'the name server does not answer',
  UND_ERR_CONNECT_TIMEOUT: 'no answer to the connection attempt: packets are dropped, or the host is down',
  UND_ERR_SOCKET: 'the other side closed the connection before it answered',
};

const TRUST: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'its HTTPS certificate has expired',
  CERT_NOT_YET_VALID: 'its HTTPS certificate is not valid yet (is the clock right?)',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its HTTPS certificate is self-signed and not trusted',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its HTTPS certificate is for another name',
  SELF_SIGNED_CERT_IN_CHAIN: 'its HTTPS certificate comes from a root that is not trusted',
  UNABLE_TO_GET_ISSUER_CERT: 'its HTTPS certificate comes from a root that is not trusted',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its HTTPS certificate comes from a root that is not trusted',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its HTTPS certificate comes from a root that is not trusted',
  CERT_SIGNATURE_FAILURE: 'its HTTPS certificate was not signed by the trusted root of that name',
};

const PROTOCOL: Readonly<Record<string, string>> = {
  HTTPParserError: 'it does not speak HTTP',
  EPROTO: 'it does not speak TLS as expected',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it does not speak TLS: an http service on an https port?',
  UND_ERR_HEADERS_OVERFLOW: 'its headers are larger than any ACME server sends',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'the answer is not as long as it says',
  UND_ERR_RES_EXCEEDED_MAX_SIZE: 'the answer is larger than any ACME server sends',
};

/** Reads the codes of node:net, node:tls and undici, also where one error wraps another. */
export function readNetworkFailure(error: unknown): NetworkFailure {
  for (const code of codesOf(error)) {
    const [unreachable, trust, protocol] = [UNREACHABLE[code], TRUST[code], PROTOCOL[code]];
    if (unreachable !== undefined) return { kind: 'unreachable', reason: `${unreachable} (${code})` };
    if (trust !== undefined) return { kind: 'trust', reason: `${trust} (${code})` };
    if (protocol !== undefined) return { kind: 'protocol', reason: `${protocol} (${code})` };
    if (code.startsWith('HPE_')) return { kind: 'protocol', reason: `it does not speak HTTP (${code})` };
  }
  return { kind: 'unreachable', reason: error instanceof Error ? error.message : String(error) };
}

function* codesOf(error: unknown): Generator<string> {
  if (!(error instanceof Error)) return;
  if ('code' in error && typeof error.code === 'string') yield error.code;
  // undici's parser does not always give a code.
  yield error.name;
  // One attempt per address: the first tells as much as all.
  if (error instanceof AggregateError) yield* codesOf(error.errors[0]);
  if (error.cause !== undefined) yield* codesOf(error.cause);
}
