/**
 * The health check of the images: exit status 0 when kacme answers 200, 1 and its reasons when not. It asks
 * `operations.listen` as configured by default; KACME_HEALTH_URL is for another address, or for `/healthz`.
 */

const url = process.env['KACME_HEALTH_URL'] ?? 'http://127.0.0.1:8083/readyz';

try {
  const response = await fetch(url, { signal: AbortSignal.timeout(8_000) });
  process.stdout.write(`${url}: ${response.status} ${await response.text()}\n`);
  process.exitCode = response.ok ? 0 : 1;
} catch (error) {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  process.stdout.write(`${url}: ${cause instanceof Error ? cause.message : cause}\n`);
  process.exitCode = 1;
}
