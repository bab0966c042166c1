import { integerFrom, pickFrom, type Rng } from '../support/random.ts';
import type { Cluster } from './cluster.ts';
import type { Victim } from './process.ts';

/** What can happen to a deployment, and how often among all that happens. */
const HARM = {
  killWorker: 8,
  freezeWorker: 3,
  stopWorker: 2,
  killEdge: 3,
  killRedis: 1,
  restartRedis: 1,
  cut: 4,
  delay: 3,
  killWebhooks: 6,
  freezeWebhooks: 2,
} as const;

export type Harm = keyof typeof HARM;

const HARMS = [
  ...['killWorker', 'freezeWorker', 'stopWorker', 'killEdge', 'killRedis', 'restartRedis'],
  ...['cut', 'delay', 'killWebhooks', 'freezeWebhooks'],
] as const satisfies readonly Harm[];

/** Does harm until told to stop, each piece drawn from a seed, and counts it. */
export class Adversary {
  readonly #cluster: Cluster;
  readonly #rng: Rng;
  readonly #countByHarm = new Map<Harm, number>();
  readonly #recoveries = new Set<Promise<void>>();
  readonly #failures: unknown[] = [];
  #redisRestart: Promise<void> = Promise.resolve();

  constructor(cluster: Cluster, rng: Rng) {
    this.#cluster = cluster;
    this.#rng = rng;
  }

  get numKills(): number {
    return [...this.#countByHarm.values()].reduce((sum, count) => sum + count, 0);
  }

  get killsByKind(): Record<string, number> {
    return Object.fromEntries(this.#countByHarm);
  }

  /** Harms once, and does not wait until all has recovered. */
  strike(): void {
    const harm = this.#draw();
    if (!this.#inflict(harm)) return;
    this.#countByHarm.set(harm, (this.#countByHarm.get(harm) ?? 0) + 1);
  }

  /**
   * Waits until everything that was killed serves again. @throws {Error} when something does not
   */
  async settle(): Promise<void> {
    while (this.#recoveries.size > 0) await Promise.allSettled(this.#recoveries);
    if (this.#failures.length > 0) throw new AggregateError(this.#failures, 'not all came back');
  }

  #draw(): Harm {
    const isPossible = (harm: Harm) => this.#cluster.webhooks.length > 0 || !/Webhooks$/.test(harm);
    const harms = HARMS.filter(isPossible);
    let rest = this.#rng() * harms.reduce((sum, harm) => sum + HARM[harm], 0);
    for (const harm of harms) {
      rest -= HARM[harm];
      if (rest < 0) return harm;
    }
    return 'cut';
  }

  /** @returns whether there was something to harm: the last of a kind is left alone */
  #inflict(harm: Harm): boolean {
    const { workers, edges, webhooks, relays } = this.#cluster;
    switch (harm) {
      case 'killWorker':
        return this.#hit(workers, (victim) => victim.restart('SIGKILL'));
      case 'stopWorker':
        return this.#hit(workers, (victim) => victim.restart('SIGTERM'));
      case 'freezeWorker': {
        const ms = integerFrom(this.#rng, 500, 6000);
        return this.#hit(workers, (victim) => victim.freeze(ms));
      }
      case 'killEdge':
        return this.#hit(edges, (victim) => victim.restart('SIGKILL'));
      case 'killWebhooks':
        return this.#hit(webhooks, (victim) => victim.restart('SIGKILL'));
      case 'freezeWebhooks': {
        const ms = integerFrom(this.#rng, 500, 6000);
        return this.#hit(webhooks, (victim) => victim.freeze(ms));
      }
      case 'killRedis':
        return this.#restartRedis('SIGKILL');
      case 'restartRedis':
        return this.#restartRedis('SIGTERM');
      case 'cut':
        pickFrom(this.#rng, relays).cut();
        return true;
      case 'delay':
        pickFrom(this.#rng, relays).delay(integerFrom(this.#rng, 100, 2500));
        return true;
    }
  }

  #hit(victims: readonly Victim[], act: (victim: Victim) => Promise<void>): boolean {
    const standing = victims.filter(({ isUp }) => isUp);
    if (standing.length < 2) return false;
    this.#recover(act(pickFrom(this.#rng, standing)));
    return true;
  }

  #restartRedis(signal: 'SIGKILL' | 'SIGTERM'): boolean {
    this.#redisRestart = this.#redisRestart.then(() => this.#cluster.restartRedis(signal));
    this.#recover(this.#redisRestart);
    return true;
  }

  #recover(recovery: Promise<void>): void {
    this.#recoveries.add(recovery);
    const forget = () => this.#recoveries.delete(recovery);
    recovery.catch((failure: unknown) => this.#failures.push(failure)).then(forget);
  }
}
