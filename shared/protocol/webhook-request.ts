import { z } from 'zod';
import { BATCH_NOTICES, JOB_NOTICES, TERMINAL_NOTICES, type Webhook } from './webhook.ts';
import { MAX_URL_LENGTH } from './webhook-url.ts';

/** Of a secret, as the Standard Webhooks specification has it. */
const MIN_SECRET_BYTES = 24;
const MAX_SECRET_BYTES = 64;
const NEW_SECRET_BYTES = 32;
/** While one secret is replaced by the next, both sign. */
const MAX_SECRETS = 4;

const MAX_METADATA = 16;

const secretPattern = /^whsec_(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

function isSecret(text: string): boolean {
  if (!secretPattern.test(text)) return false;
  const numBytes = atob(text.slice('whsec_'.length)).length;
  return numBytes >= MIN_SECRET_BYTES && numBytes <= MAX_SECRET_BYTES;
}

/** One or several, as an array or joined by spaces. */
const secrets = z.preprocess(
  (value) => (typeof value === 'string' ? value.split(' ').filter((part) => part !== '') : value),
  z
    .array(
      z.string().refine(isSecret, {
        error: `must be whsec_ and ${MIN_SECRET_BYTES} to ${MAX_SECRET_BYTES} bytes in base64`,
      }),
    )
    .min(1)
    .max(MAX_SECRETS),
);

/** The client's own notes, within OpenAI's limits. */
export const metadataSchema = z
  .record(z.string().max(64), z.string().max(512))
  .refine((entries) => Object.keys(entries).length <= MAX_METADATA, {
    error: `has too many entries; the limit is ${MAX_METADATA}`,
  });

/** Who is to be told, as a client asks for it. What its URL may be, `faultOfUrl` says. */
export const webhookRequestSchema = webhookRequestOf(JOB_NOTICES, TERMINAL_NOTICES);

/** The same for a batch. */
export const batchWebhookRequestSchema = webhookRequestOf(BATCH_NOTICES, BATCH_NOTICES);

/** @param unless what is told of when the client does not say */
function webhookRequestOf(notices: readonly string[], unless: readonly string[]) {
  return z
    .strictObject(
      {
        url: z.string().min(1).max(MAX_URL_LENGTH),
        events: z
          .array(z.enum(notices))
          .min(1)
          .default([...unless]),
        secret: secrets.nullish(),
        payload: z.enum(['thin', 'full']).default('thin'),
      },
      {
        error: (issue) =>
          issue.code === 'unrecognized_keys'
            ? `has an unknown field: ${issue.keys?.[0]}`
            : undefined,
      },
    )
    .transform(({ url, events, secret, payload }): Webhook => {
      const base = { url, events: [...new Set(events)], payload };
      return secret ? { ...base, secret: secret.join(' ') } : base;
    });
}

/** For a webhook that brings none. */
export function drawSecret(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(NEW_SECRET_BYTES));
  return `whsec_${btoa(String.fromCharCode(...bytes))}`;
}
