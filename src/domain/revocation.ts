/** Reasons by the names of RFC 5280 section 5.3.1 that CAs take from subscribers, with their codes. */
export const REASON_CODES = {
  unspecified: 0,
  keyCompromise: 1,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
} as const;

export type RevocationReason = keyof typeof REASON_CODES;
