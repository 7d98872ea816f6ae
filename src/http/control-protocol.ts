import * as z from 'zod';
import type { ErrorCode, ErrorReport } from '../domain/errors.ts';
import { REVOCATION_REASONS } from '../domain/revocation.ts';
import type { Progress } from '../domain/status.ts';

/**
 * What crosses the control socket: HTTP/1.1, JSON bodies. Every request is met at once with 102 (Processing). `status`
 * and `reload-config` then answer with one `Message`; the others stream newline-delimited ones: any number of
 * `progress`, then one `result` or `error`.
 */
export const CONTROL_PATHS = {
  status: '/v1/status',
  check: '/v1/check',
  calendar: '/v1/calendar',
  accounts: '/v1/accounts',
  account: '/v1/account',
  bootstrap: '/v1/bootstrap',
  renew: '/v1/renew',
  rollback: '/v1/rollback',
  reload: '/v1/reload',
  adopt: '/v1/adopt',
  revoke: '/v1/revoke',
  distribute: '/v1/distribute',
  reloadConfig: '/v1/reload-config',
} as const;

export type Message =
  | { readonly progress: Progress }
  | { readonly result: unknown }
  | { readonly error: ErrorReport };

/** `sockaddr_un.sun_path` less its terminating NUL (unix(7)); a longer path would be cut off silently. */
export const MAX_SOCKET_PATH_BYTES = 107;

const Name = z.string().min(1).max(256);

export const CalendarRequest = z.strictObject({ days: z.int().min(1).max(730) });
export const AccountsRequest = z.strictObject({ issuers: z.array(Name).max(1_000) });
/** An RSA key of 16,384 bits takes 13 kB. */
const KeyPem = z.string().max(16_384);
export const AccountChangeRequest = z.discriminatedUnion('action', [
  z.strictObject({ action: z.enum(['register', 'update', 'rollover', 'deactivate']), issuer: Name }),
  z.strictObject({ action: z.literal('recover'), issuer: Name, keyPem: KeyPem, replace: z.boolean() }),
]);
export const CheckRequest = z.strictObject({});
export const BootstrapRequest = z.strictObject({});
export const RenewRequest = z.strictObject({
  names: z.array(Name).max(10_000),
  force: z.boolean(),
  dryRun: z.boolean(),
});
export const ReloadRequest = z.strictObject({ pool: Name.optional(), host: Name.optional() });
export const RollbackRequest = z.strictObject({ name: Name, to: Name.optional() });
export const AdoptRequest = z.strictObject({
  origin: z.union([
    z.strictObject({ from: z.literal('hosts') }),
    z.strictObject({ from: z.enum(['lego', 'certbot']), directory: z.string().min(1).max(4096) }),
  ]),
  names: z.array(Name).max(10_000),
  dryRun: z.boolean(),
  complete: z.boolean(),
});
export const RevokeCommandRequest = z.strictObject({
  certificate: Name,
  reason: z.enum(REVOCATION_REASONS),
  replace: z.boolean(),
  fingerprint: z
    .string()
    .max(256)
    .optional()
    .transform((value) => value),
  signedBy: z.enum(['account', 'certificate-key']),
});
export const DistributeRequest = z.strictObject({ host: Name.optional() });
export const ReloadConfigRequest = z.strictObject({});

/** A code this side does not know comes from a newer service: it is passed on as it is. */
const Code = z.custom<ErrorCode>((value) => typeof value === 'string' && /^ERR_[A-Z0-9_]+$/.test(value));

const Report = z.object({
  code: Code,
  message: z.string(),
  retry: z.enum(['now', 'later', 'never']),
  remedy: z.string().optional(),
});

const AnyMessage = z.union([
  z.object({ error: Report }),
  z.object({ progress: z.object({ message: z.string() }) }),
  z.object({ result: z.unknown() }).refine((value) => 'result' in value),
]);

/** Undefined for what is not a message, such as the answer of another program. */
export function parseMessage(text: string): z.infer<typeof AnyMessage> | undefined {
  try {
    return AnyMessage.safeParse(JSON.parse(text)).data;
  } catch {
    // Not JSON, so not a message either: the caller says what it expected.
    return undefined;
  }
}
