import { FakeTransport } from '../support/fake-transport.ts';
import { describeTransport } from '../support/transport-conformance.ts';

describeTransport('FakeTransport', async () => {
  const transport = new FakeTransport();
  return {
    transport,
    register: async (card, files) => transport.register(card, files),
    claim: async (id) => transport.claim(id),
    append: async (id, epoch, events) => {
      for (const event of events) transport.append(id, epoch, event);
    },
    [Symbol.asyncDispose]: async () => {},
  };
});
