import { isRequestId, type RequestId } from '../../shared/ids.ts';
import type { Keys } from '../../shared/protocol/keys.ts';
import { CANCEL_REASONS, type CancelReason } from '../../shared/protocol/request-scripts.ts';
import type { RedisClient } from './connection.ts';

/**
 * Listens for requests that clients gave up on. A message may be lost: the flag in the request's
 * state comes back with every append and every claim.
 *
 * @param subscriber resubscribes by itself after a reconnect
 */
export async function listenForCancels(
  subscriber: RedisClient,
  keys: Keys,
  onCancel: (id: RequestId, reason: CancelReason) => void,
): Promise<void> {
  subscriber.on('message', (channel: string, message: string) => {
    if (channel !== keys.cancels) return;
    const [id = '', word] = message.split(' ');
    const reason = CANCEL_REASONS.find((known) => known === word);
    if (isRequestId(id) && reason !== undefined) onCancel(id, reason);
  });
  await subscriber.subscribe(keys.cancels);
}
