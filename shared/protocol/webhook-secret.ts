import { z } from 'zod';

const PREFIX = 'whsec_';
/** Of a secret, as the Standard Webhooks specification has it. */
const MIN_SECRET_BYTES = 24;
const MAX_SECRET_BYTES = 64;
const NEW_SECRET_BYTES = 32;

const secretPattern = /^whsec_(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

export const webhookSecretSchema = z.string().refine(isSecret, {
  error: `must be ${PREFIX} and ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} bytes in base64`,
});

function isSecret(text: string): boolean {
  if (!secretPattern.test(text)) return false;
  const numBytes = atob(text.slice(PREFIX.length)).length;
  return numBytes >= MIN_SECRET_BYTES && numBytes <= MAX_SECRET_BYTES;
}

/**
 * Whose webhooks are signed with what when they bring no secret, as edges and those who deliver are
 * told: `tenant:whsec_...`, joined by commas. Several of one tenant sign side by side.
 */
export const tenantSecretsSchema = z.string().transform((text, context) => {
  const secretsByTenant = new Map<string, readonly string[]>();
  for (const entry of text.split(',').filter((each) => each.trim() !== '')) {
    const [, tenant = '', secret = ''] = /^(.+):(.*)$/.exec(entry.trim()) ?? [];
    if (tenant === '' || !isSecret(secret)) {
      const size = `${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} bytes in base64`;
      const message = `must be tenant:${PREFIX} and ${size}, joined by ,`;
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    }
    secretsByTenant.set(tenant, [...(secretsByTenant.get(tenant) ?? []), secret]);
  }
  return secretsByTenant;
});

/** For a webhook that brings none. */
export function drawSecret(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(NEW_SECRET_BYTES));
  return `${PREFIX}${btoa(String.fromCharCode(...bytes))}`;
}
