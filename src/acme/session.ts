import PQueue from 'p-queue';
import { allowManyWaits } from './deadline.ts';
import { type Directory, parseDirectory } from './directory.ts';
import { AcmeProblemError } from './problem.ts';
import type { AcmeSigner, Sender } from './signer.ts';
import {
  type AcmeRequest,
  type AcmeResource,
  type AcmeResponse,
  type AcmeTransport,
  malformedError,
} from './transport.ts';

/** A CA with many front ends may refuse several nonces in a row (RFC 8555 section 6.5); each costs a round trip. */
const MAX_NONCE_RETRIES = 15;

/** Names are validated side by side, but not in a burst: CAs allow some 20 requests a second from one address. */
const PARALLEL_REQUESTS = 5;

/** A directory may change while a service runs for months. */
const DIRECTORY_MAX_AGE_MS = 86_400_000;

export interface SignedRequest {
  readonly resource: AcmeResource;
  readonly url: string;
  /** Undefined makes it a POST-as-GET (RFC 8555 section 6.3). */
  readonly payload: object | undefined;
  readonly sender: Sender;
  /** Instead of the account's: a certificate's own key may ask for its revocation (section 7.6). */
  readonly signer?: AcmeSigner;
  readonly accept?: string;
  /** Called immediately before each time it is sent; what it throws prevents that. */
  readonly beforeSend?: () => void;
}

export interface AcmeSessionOptions {
  readonly directoryUrl: string;
  readonly transport: AcmeTransport;
  readonly signer: AcmeSigner;
  readonly monotonicMs: () => number;
}

/** Signed exchanges with one CA: the directory, a nonce for each request, and again when a nonce is refused. */
export class AcmeSession {
  readonly signer: AcmeSigner;
  readonly #options: AcmeSessionOptions;
  readonly #queue = new PQueue({ concurrency: PARALLEL_REQUESTS });
  #directory: { readonly directory: Directory; readonly readAtMs: number } | undefined;

  constructor(options: AcmeSessionOptions) {
    this.#options = options;
    this.signer = options.signer;
  }

  /** RFC 8555 section 7.1.1; asked once a day, unless it must be `fresh`. */
  async directory({ signal, fresh = false }: { signal: AbortSignal; fresh?: boolean }): Promise<Directory> {
    const { monotonicMs } = this.#options;
    const held = this.#directory;
    if (!fresh && held !== undefined && monotonicMs() - held.readAtMs < DIRECTORY_MAX_AGE_MS)
      return held.directory;
    return (await this.readDirectory({ signal })).directory;
  }

  /** Asks for it now, and gives the CA's own time with it. */
  async readDirectory({
    signal,
  }: {
    signal: AbortSignal;
  }): Promise<{ readonly directory: Directory; readonly date: Date | undefined }> {
    const { transport, directoryUrl, monotonicMs } = this.#options;
    const request = { resource: 'directory', method: 'GET', url: directoryUrl } as const;
    const response = await transport.send(request, { signal });
    const directory = parseDirectory(response);
    this.#directory = { directory, readAtMs: monotonicMs() };
    const date = new Date(response.header('date') ?? Number.NaN);
    return { directory, date: Number.isNaN(date.getTime()) ? undefined : date };
  }

  /** An unsigned request, as for renewal information; in line with the others. Throws what `AcmeTransport.send` throws. */
  async get(
    { resource, url }: Pick<AcmeRequest, 'resource' | 'url'>,
    { signal }: { signal: AbortSignal },
  ): Promise<AcmeResponse> {
    allowManyWaits(signal);
    const send = () => this.#options.transport.send({ resource, method: 'GET', url }, { signal });
    return this.#queue.add(send, { signal });
  }

  /**
   * Sends once, save that a refused nonce was no use of it. Throws what `AcmeTransport.send` throws, or what
   * `beforeSend` throws.
   */
  async post(request: SignedRequest, { signal }: { signal: AbortSignal }): Promise<AcmeResponse> {
    allowManyWaits(signal);
    return this.#queue.add(() => this.#post(request, { signal }), { signal });
  }

  async #post(request: SignedRequest, { signal }: { signal: AbortSignal }): Promise<AcmeResponse> {
    const { transport } = this.#options;
    const { resource, url, payload, sender, accept, signer = this.signer } = request;
    for (let retries = 0; ; retries++) {
      const nonce = transport.takeNonce() ?? (await this.#newNonce({ signal }));
      const body = signer.sign(url, payload, { nonce, sender });
      request.beforeSend?.();
      try {
        const sent: AcmeRequest = {
          resource,
          method: 'POST',
          url,
          body,
          termsOfService: this.#directory?.directory.termsOfService,
          ...(accept === undefined ? {} : { accept }),
        };
        return await transport.send(sent, { signal });
      } catch (error) {
        const refusedNonce = error instanceof AcmeProblemError && error.type === 'badNonce';
        if (!refusedNonce || retries === MAX_NONCE_RETRIES) throw error;
      }
    }
  }

  /** RFC 8555 section 7.2 */
  async #newNonce({ signal }: { signal: AbortSignal }): Promise<string> {
    const { newNonce } = await this.directory({ signal });
    const request = { resource: 'newNonce', method: 'HEAD', url: newNonce } as const;
    await this.#options.transport.send(request, { signal });
    const nonce = this.#options.transport.takeNonce();
    if (nonce === undefined) throw malformedError(request, 'it carries no usable Replay-Nonce');
    return nonce;
  }
}
