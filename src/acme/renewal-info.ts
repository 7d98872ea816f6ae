import * as z from 'zod';
import { judgeWindow, type RenewalInfoAnswer } from '../domain/renewal-info.ts';
import { parseDocument } from './document.ts';
import { type AcmeResponse, malformedError } from './transport.ts';

const moment = z.iso.datetime({ offset: true }).transform((text) => new Date(text));

const renewalInfoSchema = z.object({
  suggestedWindow: z.object({ start: moment, end: moment }),
  // Words for people: one that cannot be shown must not cost the window.
  explanationURL: z
    .url({ protocol: /^https?$/, normalize: true })
    .optional()
    .catch(undefined),
});

/** RFC 9773 section 4.1: where the CA answers about one certificate. */
export const renewalInfoUrl = (renewalInfo: string, certID: string): string =>
  `${renewalInfo.replace(/\/+$/, '')}/${certID}`;

/** RFC 9773 section 4.2. Throws `ERR_ACME_MALFORMED`, also for a window that ends before it starts. */
export function parseRenewalInfo(response: AcmeResponse): RenewalInfoAnswer {
  const { suggestedWindow, explanationURL } = parseDocument(renewalInfoSchema, response);
  const judged = judgeWindow(suggestedWindow);
  if (!judged.valid) throw malformedError(response.request, judged.reason);
  return { info: { suggestedWindow, explanationURL }, retryAfter: response.notBefore };
}
