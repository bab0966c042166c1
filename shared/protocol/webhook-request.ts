import { z } from 'zod';
import { BATCH_NOTICES, JOB_NOTICES, TERMINAL_NOTICES, type Webhook } from './webhook.ts';
import { webhookSecretSchema } from './webhook-secret.ts';
import { MAX_URL_LENGTH } from './webhook-url.ts';

/** While one secret is replaced by the next, both sign. */
const MAX_SECRETS = 4;

const MAX_METADATA = 16;

/** One or several, as an array or joined by spaces. */
const secrets = z.preprocess(
  (value) => (typeof value === 'string' ? value.split(' ').filter((part) => part !== '') : value),
  z.array(webhookSecretSchema).min(1).max(MAX_SECRETS),
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
