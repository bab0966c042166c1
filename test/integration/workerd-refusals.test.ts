import { Keys } from '../../shared/protocol/keys.ts';
import { register } from '../../worker/queue/registry.ts';
import { describeOpenAiRefusals, REFUSING } from '../support/openai-refusals.ts';
import { openTestRedis } from '../support/redis.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';
import { startWorkerdEdge } from '../support/workerd-edge.ts';

describeOpenAiRefusals('the edge in workerd', async () => {
  const stack = new AsyncDisposableStack();
  const redis = stack.use(await openTestRedis());
  const serve = (name: string) =>
    register(redis.client, redis.client, new Keys(), {
      card: { ...storiesCard, name },
      tokenizerFiles: storiesFiles,
      workerId: 'worker',
      ratePerSecond: () => 0,
    });
  stack.use(await serve(storiesCard.name));
  await (await serve(REFUSING.asleep))[Symbol.asyncDispose]();
  const env = { API_KEYS: `${REFUSING.apiKey}:acme`, MAX_QUEUED: `${REFUSING.maxQueued}` };
  const { url } = stack.use(await startWorkerdEdge({ redisUrl: redis.url, env }));
  return { url, [Symbol.asyncDispose]: () => stack.disposeAsync() };
});
