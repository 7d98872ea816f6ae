import type { CheckReport, Finding } from '../../domain/finding.ts';
import { oneLine, paint, type Tone, type View } from './style.ts';
import { renderTable } from './table.ts';
import { renderMoment } from './time.ts';

const TONES: Readonly<Record<Finding['state'], Tone>> = { ok: 'good', warning: 'warning', failed: 'bad' };

/** Every finding in a table, then those that somebody should look at, whole and with what to do. */
export function renderCheck({ at, findings }: CheckReport, view: View): string {
  const telling = findings.filter(({ state }) => state !== 'ok');
  const count = (state: Finding['state']) => findings.filter((finding) => finding.state === state).length;
  const table = renderTable(
    ['CHECK', 'ON', 'STATE', 'REASON'],
    findings.map(({ check, subject, state, reason }) => [
      check,
      subject,
      { text: state, tone: TONES[state] },
      reason,
    ]),
    view,
  );
  const sum = `${count('failed')} failed, ${count('warning')} to look at, ${count('ok')} ok (${renderMoment(at)})\n`;
  const blocks = telling.map((finding) => renderBlock(finding, view)).join('');
  return [table, ...(blocks === '' ? [] : [blocks]), sum].join('\n');
}

function renderBlock({ check, subject, state, reason, code, remedy }: Finding, view: View): string {
  const lines = [
    `${paint(oneLine(`${check} of ${subject}`), TONES[state], view)}: ${code ?? state}`,
    `  ${oneLine(reason)}`,
    ...(remedy === undefined ? [] : [`  what to do: ${oneLine(remedy)}`]),
  ];
  return `${lines.join('\n')}\n`;
}
