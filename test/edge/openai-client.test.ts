import { runBatch } from '../../edge/batches/batch-run.ts';
import { createModelCatalog } from '../../edge/catalog.ts';
import { listen } from '../../edge/node-server.ts';
import { toTenantId } from '../../shared/ids.ts';
import { FakeTransport } from '../support/fake-transport.ts';
import { describeOpenAiClient } from '../support/openai-conformance.ts';
import { describeOpenAiRefusals, REFUSING } from '../support/openai-refusals.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';
import { tellStory } from '../support/storyteller.ts';

describeOpenAiClient('the Node edge over a fake transport', async () => {
  const transport = new FakeTransport(tellStory);
  transport.register(storiesCard, storiesFiles);
  const app = { log: () => {} };
  const stopped = new AbortController();
  transport.batches.onCreate = (id) => {
    void runBatch(id, {
      transport,
      batches: transport.batches,
      catalog: createModelCatalog(),
      notify: async () => undefined,
      window: 4,
      maxTenantBytes: 1_000_000,
      now: Date.now,
      log: () => undefined,
      stopped: stopped.signal,
    });
  };
  const server = await listen(transport, { port: 0, hostname: '127.0.0.1', app });
  return {
    url: `http://127.0.0.1:${server.port}`,
    [Symbol.asyncDispose]: () => server.close(0),
  };
});

describeOpenAiRefusals('the Node edge over a fake transport', async () => {
  const transport = new FakeTransport();
  transport.maxQueued = REFUSING.maxQueued;
  transport.register(storiesCard, storiesFiles);
  transport.register({ ...storiesCard, name: REFUSING.asleep }, storiesFiles, 0);
  const apiKeys = new Map([[REFUSING.apiKey, toTenantId('acme')]]);
  const app = { apiKeys, log: () => {} };
  const server = await listen(transport, { port: 0, hostname: '127.0.0.1', app });
  return {
    url: `http://127.0.0.1:${server.port}`,
    [Symbol.asyncDispose]: () => server.close(0),
  };
});
