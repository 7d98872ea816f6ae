import type { AccountChange, AccountView } from '../../domain/account.ts';
import { renderFailures } from './failure.ts';
import { oneLine, paint, type Tone, type View } from './style.ts';

const STATES: Readonly<Record<AccountView['state'], { readonly text: string; readonly tone: Tone }>> = {
  none: { text: 'none yet: kacme makes it when it is needed', tone: 'faint' },
  unregistered: { text: 'not registered: the CA does not know its key', tone: 'warning' },
  valid: { text: 'valid', tone: 'good' },
  deactivated: { text: 'deactivated', tone: 'bad' },
  revoked: { text: 'revoked by the CA', tone: 'bad' },
  unknown: { text: 'unknown: the CA could not be asked', tone: 'bad' },
};

/** A block of lines for each issuer, then what failed. */
export function renderAccounts(accounts: readonly AccountView[], view: View): string {
  if (accounts.length === 0) return 'no issuers are configured\n';
  const failures = accounts.flatMap(({ issuer, failure }) =>
    failure === undefined
      ? []
      : [{ subject: `issuer ${issuer}`, report: failure, next: 'nothing: this command only reads' }],
  );
  return [...accounts.map((account) => renderAccount(account, view)), renderFailures(failures, view)]
    .filter((part) => part !== '')
    .join('\n');
}

export function renderAccountChange({ done, account }: AccountChange, view: View): string {
  return `${oneLine(`${account.issuer}: ${done}`)}\n\n${renderAccounts([account], view)}`;
}

/** False when a CA cannot be asked, or would refuse to issue. */
export function areUsable(accounts: readonly AccountView[]): boolean {
  return accounts.every(({ state }) => state === 'none' || state === 'unregistered' || state === 'valid');
}

function renderAccount(account: AccountView, view: View): string {
  const { text, tone } = STATES[account.state];
  const rows: readonly (readonly [string, string | undefined])[] = [
    ['directory', account.directory],
    ['account', account.url],
    ['contacts', contactsOf(account)],
    ['key', account.key && `${account.key.type}, thumbprint ${account.key.thumbprint}`],
    ['orders', account.orders],
    ['terms', account.termsOfService],
    ['binding', bindingOf(account)],
  ];
  const lines = rows.flatMap(([name, value]) =>
    value === undefined ? [] : [`  ${name.padEnd(WIDTH)}${oneLine(value)}`],
  );
  const notes = account.notes.map((note) => `  ${paint(`note: ${oneLine(note)}`, 'warning', view)}`);
  return `${[`${paint(account.issuer, 'heading', view)}: ${paint(text, tone, view)}`, ...lines, ...notes].join('\n')}\n`;
}

/** Of the longest name, with a gap. */
const WIDTH = 'directory'.length + 2;

function contactsOf({ contact, configuredContact, state }: AccountView): string {
  if (contact !== undefined) return contact.join(', ') || 'none';
  const configured = configuredContact.join(', ') || 'none';
  return state === 'valid'
    ? `${configured} (configured; the CA does not tell its own)`
    : `${configured} (configured)`;
}

function bindingOf({
  externalAccountRequired: required,
  externalAccountConfigured: configured,
}: AccountView): string | undefined {
  if (required === undefined) return undefined;
  if (!required) return configured ? 'eab is configured; the CA does not ask for it' : 'no eab needed';
  return configured ? 'eab is needed and configured' : 'eab is needed and not configured';
}
