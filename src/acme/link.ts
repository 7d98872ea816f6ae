/**
 * The targets of Link headers (RFC 8288 section 3) with this relation, as absolute URLs; those that are none are left
 * out.
 */
export function linkTargets(headers: readonly string[], rel: string, base: string): readonly string[] {
  return headers
    .flatMap((header) => [
      ...header.matchAll(/<([^>]*)>((?:\s*;\s*[^\s=;,]+\s*=\s*(?:"[^"]*"|[^\s",;]+))*)/g),
    ])
    .filter(([, , parameters = '']) => relationsOf(parameters).includes(rel))
    .flatMap(([, target = '']) => (URL.canParse(target, base) ? [new URL(target, base).href] : []));
}

/** The first `rel` counts, and may name several, in whatever case (section 3.3). */
function relationsOf(parameters: string): readonly string[] {
  const [, quoted, bare] = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s",;]+))/i.exec(parameters) ?? [];
  return (quoted ?? bare ?? '').toLowerCase().split(/\s+/);
}
