import { reportError } from '../domain/errors.ts';
import type { CertificateFacts } from '../domain/x509.ts';
import type { AppDeps } from './deps.ts';
import { type CertificateRecord, certificateRecord, listRecords } from './records.ts';

/**
 * Fingerprints by which kacme knows its own, whatever certificate they were issued for: names change, and deployments
 * are pointed elsewhere. The store is read once: whoever acts is the only writer.
 */
export class OwnCertificates {
  readonly #deps: Pick<AppDeps, 'store' | 'log'>;
  /** Those learned of, and all of the store once `#history` resolves. */
  readonly #known = new Set<string>();
  #history: Promise<void> | undefined;

  constructor(deps: Pick<AppDeps, 'store' | 'log'>) {
    this.#deps = deps;
  }

  learn(...certificates: readonly Pick<CertificateFacts, 'fingerprint256' | 'fingerprint1'>[]): void {
    for (const { fingerprint256, fingerprint1 } of certificates)
      this.#known.add(fingerprint256).add(fingerprint1);
  }

  /** SHA-256 and SHA-1, in hexadecimal; those of `record` alone where the history of the others is damaged. */
  async fingerprints(
    record: CertificateRecord,
    options: { signal: AbortSignal },
  ): Promise<ReadonlySet<string>> {
    this.#history ??= this.#readHistory(options);
    try {
      await this.#history;
      return this.#known;
    } catch (error) {
      this.#history = undefined;
      if (reportError(error).code !== 'ERR_STORE_CORRUPT') throw error;
      // Knowing less of its own only makes kacme leave more alone.
      this.#deps.log.warn({ err: error }, 'history of other certificates cannot be read');
      return new Set(
        record.history.flatMap(({ fingerprint256, fingerprint1 }) => [fingerprint256, fingerprint1]),
      );
    }
  }

  async #readHistory(options: { signal: AbortSignal }): Promise<void> {
    const records = await listRecords(this.#deps.store, certificateRecord, [], options);
    for (const { value } of records) this.learn(...value.history);
  }
}
