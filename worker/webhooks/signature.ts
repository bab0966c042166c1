import { createHmac } from 'node:crypto';

const SECRET_PREFIX = 'whsec_';

export interface SignedContent {
  readonly webhookId: string;
  readonly timestampSeconds: number;
  readonly body: string;
}

/**
 * The three headers of the Standard Webhooks specification.
 *
 * @param secrets one at least; each of them signs
 */
export function signedHeaders(
  content: SignedContent,
  secrets: readonly string[],
): Record<string, string> {
  const signatures = secrets.map((secret) => signatureOf(content, secret));
  return {
    'webhook-id': content.webhookId,
    'webhook-timestamp': `${content.timestampSeconds}`,
    'webhook-signature': signatures.join(' '),
  };
}

/** `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base64. */
function signatureOf({ webhookId, timestampSeconds, body }: SignedContent, secret: string): string {
  const key = Buffer.from(secret.replace(SECRET_PREFIX, ''), 'base64');
  const hmac = createHmac('sha256', key).update(`${webhookId}.${timestampSeconds}.${body}`);
  return `v1,${hmac.digest('base64')}`;
}

/** A secret, or several joined by spaces while one is replaced by the next: each of them signs. */
export function splitSecrets(secrets: string): string[] {
  return secrets.split(/\s+/).filter((secret) => secret !== '');
}
