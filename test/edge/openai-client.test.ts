import { listen } from '../../edge/node-server.ts';
import { FakeTransport } from '../support/fake-transport.ts';
import { describeOpenAiClient } from '../support/openai-conformance.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';
import { tellStory } from '../support/storyteller.ts';

describeOpenAiClient('the Node edge over a fake transport', async () => {
  const transport = new FakeTransport(tellStory);
  transport.register(storiesCard, storiesFiles);
  const app = { log: () => {} };
  const server = await listen(transport, { port: 0, hostname: '127.0.0.1', app });
  return {
    url: `http://127.0.0.1:${server.port}`,
    [Symbol.asyncDispose]: () => server.close(0),
  };
});
