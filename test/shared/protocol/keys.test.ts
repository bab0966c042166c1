import { describe, expect, it } from 'vitest';
import { createRequestId } from '../../../shared/ids.ts';
import { Keys } from '../../../shared/protocol/keys.ts';

/** What decides a key's node in a cluster. */
function hashTag(key: string): string | undefined {
  return /\{([^}]+)\}/.exec(key)?.[1];
}

describe('Keys', () => {
  it('keeps all of one request on one node', () => {
    const id = createRequestId();
    const tags = Object.values(new Keys().request(id)).map(hashTag);
    expect(new Set(tags)).toEqual(new Set([id]));
    expect(hashTag(new Keys().deliveriesOf(id))).toBe(id);
  });

  it('gives each model and fingerprint a queue, whatever their names contain', () => {
    const keys = new Keys();
    const queues = ['a}b', 'a{b', 'a:b', 'a@b', 'org/model'].map((model) =>
      keys.queue({ model, fingerprint: 'c@d' }),
    );
    const tags = queues.map(({ prefix }) => hashTag(prefix));
    expect(new Set(tags).size).toBe(5);
    expect(tags[0]).toBe('a%7Db@c%40d');
  });

  it('cannot confuse a model and a fingerprint that meet elsewhere', () => {
    const keys = new Keys();
    const first = keys.queue({ model: 'a', fingerprint: 'b@c' });
    const second = keys.queue({ model: 'a@b', fingerprint: 'c' });
    expect(first.prefix).not.toBe(second.prefix);
  });

  it('keeps batch jobs in a queue of their own, on the node of the other', () => {
    const keys = new Keys();
    const interactive = { model: 'm', fingerprint: 'f' };
    const batch = { ...interactive, class: 'batch' } as const;
    expect(keys.queue({ ...interactive, class: 'interactive' })).toEqual(keys.queue(interactive));
    const names = [interactive, batch].flatMap((queue) => [
      keys.queueMarker(queue),
      keys.rates(queue),
      ...Object.values(keys.waitingJobs(queue)),
    ]);
    expect(new Set(names).size).toBe(8);
    expect(new Set(names.map(hashTag)).size).toBe(1);
  });

  it('begins every name as it is told', () => {
    const keys = new Keys('mine');
    const names = [
      keys.cancels,
      keys.workers,
      keys.modelCards,
      keys.departedWorkers,
      keys.autoSettings,
    ];
    const others = [keys.tokenizer('d'), keys.queueMarker({ model: 'm', fingerprint: 'f' })];
    for (const name of [...names, ...others]) expect(name).toMatch(/^mine:/);
  });
});
