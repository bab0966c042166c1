import { Webhook } from 'standardwebhooks';
import { Webhook as SvixWebhook } from 'svix';
import type { Received } from './receivers.ts';

/**
 * A delivery's body, verified by the libraries that receivers use.
 *
 * @throws {Error} where one of them does not believe it
 */
export function verifyDelivery({ body, headers }: Received, secret: string) {
  new Webhook(secret).verify(body, headers);
  new SvixWebhook(secret).verify(body, headers);
  return JSON.parse(body);
}
