import { describe, expect, it } from 'vitest';
import { createModelCatalog } from '../../edge/catalog.ts';
import { FakeTransport } from '../support/fake-transport.ts';
import { storiesCard, storiesFiles } from '../support/stories.ts';

/** Counts how often tokenizer files are fetched. */
class CountingTransport extends FakeTransport {
  readonly fetched: string[] = [];

  override tokenizerFiles(digest: string) {
    this.fetched.push(digest);
    return super.tokenizerFiles(digest);
  }
}

describe('ModelCatalog', () => {
  it('queues under the fingerprint with most workers, the same one for everybody', async () => {
    const transport = new FakeTransport();
    const catalog = createModelCatalog();
    const find = async () => (await catalog.find(transport, 'stories-target')).fingerprint;
    for (const [fingerprint, numWorkers] of [
      ['c', 2],
      ['b', 1],
      ['a', 2],
    ] as const) {
      transport.register({ ...storiesCard, fingerprint }, storiesFiles, numWorkers);
    }

    expect(await find()).toBe('a');
    transport.register({ ...storiesCard, fingerprint: 'b' }, storiesFiles, 3);
    expect(await find()).toBe('b');
  });

  it('tells a model without workers from one that nobody ever served', async () => {
    const transport = new FakeTransport();
    const catalog = createModelCatalog();
    transport.register(storiesCard, storiesFiles, 0);

    await expect(catalog.find(transport, 'stories-target')).rejects.toMatchObject({
      code: 'no_worker',
    });
    await expect(catalog.find(transport, 'other')).rejects.toMatchObject({
      code: 'model_not_found',
      message: 'the model "other" does not exist',
    });
  });

  it('builds a tokenizer once, also for those who ask at the same time', async () => {
    const transport = new CountingTransport();
    transport.register(storiesCard, storiesFiles);
    const catalog = createModelCatalog();

    const tools = await Promise.all([1, 2, 3].map(() => catalog.textTools(transport, storiesCard)));
    await catalog.textTools(transport, storiesCard);

    expect(new Set(tools).size).toBe(1);
    expect(transport.fetched).toHaveLength(3);
  });

  it('keeps the tokenizers used last, and asks again after a failure', async () => {
    const transport = new CountingTransport();
    const catalog = createModelCatalog();
    const cards = Array.from({ length: 17 }, (_, i) => ({
      ...storiesCard,
      tokenizerDigest: `digest-${i}`,
    }));
    await expect(catalog.textTools(transport, cards[0]!)).rejects.toMatchObject({
      code: 'unavailable',
    });
    for (const card of cards) transport.register(card, storiesFiles);
    for (const card of cards.slice(0, 16)) await catalog.textTools(transport, card);
    await catalog.textTools(transport, cards[0]!); // now the newest
    await catalog.textTools(transport, cards[16]!); // takes the place of digest-1
    transport.fetched.length = 0;

    await catalog.textTools(transport, cards[0]!);
    expect(transport.fetched).toEqual([]);
    await catalog.textTools(transport, cards[1]!);
    expect(transport.fetched).toEqual(['digest-1']);
  });
});
