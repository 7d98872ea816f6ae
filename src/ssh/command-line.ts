/**
 * Arguments as one line that a POSIX shell splits into exactly these again (XCU 2.2.2): SSH carries a command as a
 * line, which sshd hands to the account's shell (RFC 4254 section 6.5). It also names a command in a message.
 */
export function commandLine(argv: readonly string[]): string {
  return argv.map(quoted).join(' ');
}

function quoted(argument: string): string {
  return /^[\w@%+:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}
