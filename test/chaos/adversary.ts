import { integerFrom, pickFrom, type Rng } from '../support/random.ts';
import type { Cluster } from './cluster.ts';
import type { Victim } from './process.ts';
import type { Relay } from './relay.ts';

/** What can happen to a process, and how often among all that happens. */
const KILLS = {
  killWorker: 9,
  freezeWorker: 3,
  stopWorker: 2,
  killEdge: 4,
  freezeEdge: 2,
  killRedis: 1,
  restartRedis: 1,
  killWebhooks: 6,
  freezeWebhooks: 2,
  killBatches: 2,
} as const;

/** What can happen between processes, and between clients and edges. */
const CUTS = {
  cutRedis: 3,
  delayRedis: 3,
  swallowRedis: 1,
  cutClients: 2,
  delayClients: 2,
} as const;

export type Kill = keyof typeof KILLS;
export type Harm = Kill | keyof typeof CUTS;

const HARMS = [
  ...['killWorker', 'freezeWorker', 'stopWorker', 'killEdge', 'freezeEdge', 'killRedis'],
  ...['restartRedis', 'killWebhooks', 'freezeWebhooks', 'killBatches'],
  ...['cutRedis', 'delayRedis', 'swallowRedis', 'cutClients', 'delayClients'],
] as const satisfies readonly Harm[];

const WEIGHTS: Readonly<Record<Harm, number>> = { ...KILLS, ...CUTS };

/** One piece of harm that was done. */
export interface Strike {
  readonly harm: Harm;
  readonly atMs: number;
}

/** Does harm until told to stop, each piece drawn from a seed, and keeps account of it. */
export class Adversary {
  readonly strikes: Strike[] = [];
  readonly #cluster: Cluster;
  readonly #rng: Rng;
  readonly #recoveries = new Set<Promise<void>>();
  readonly #failures: unknown[] = [];
  #redisRestart: Promise<void> = Promise.resolve();

  constructor(cluster: Cluster, rng: Rng) {
    this.#cluster = cluster;
    this.#rng = rng;
  }

  /** Processes that were killed, stopped or frozen. */
  get kills(): readonly Strike[] {
    return this.strikes.filter(({ harm }) => harm in KILLS);
  }

  get numKills(): number {
    return this.kills.length;
  }

  /** @returns by kind, in no order */
  count(kind: 'kills' | 'cuts'): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { harm } of this.strikes) {
      if (harm in KILLS === (kind === 'kills')) counts[harm] = (counts[harm] ?? 0) + 1;
    }
    return counts;
  }

  /** Harms once, and does not wait until all has recovered. */
  strike(): void {
    const harm = this.#draw();
    const atMs = performance.now();
    if (this.#inflict(harm)) this.strikes.push({ harm, atMs });
  }

  /**
   * Waits until everything that was killed serves again. @throws {Error} when something does not
   */
  async settle(): Promise<void> {
    while (this.#recoveries.size > 0) await Promise.allSettled(this.#recoveries);
    if (this.#failures.length > 0) throw new AggregateError(this.#failures, 'not all came back');
  }

  #draw(): Harm {
    const { webhooks, batches } = this.#cluster;
    const harms = HARMS.filter((harm) => {
      if (harm.endsWith('Webhooks')) return webhooks.length > 0;
      return harm !== 'killBatches' || batches.length > 0;
    });
    let rest = this.#rng() * harms.reduce((sum, harm) => sum + WEIGHTS[harm], 0);
    for (const harm of harms) {
      rest -= WEIGHTS[harm];
      if (rest < 0) return harm;
    }
    return 'cutRedis';
  }

  /** @returns whether there was something to harm: the last of a kind is left alone */
  #inflict(harm: Harm): boolean {
    const { workers, edges, webhooks, batches, redisRelays, clientRelays } = this.#cluster;
    switch (harm) {
      case 'killWorker':
        return this.#kill(workers, 'SIGKILL');
      case 'stopWorker':
        return this.#kill(workers, 'SIGTERM');
      case 'freezeWorker':
        return this.#freeze(workers);
      case 'killEdge':
        return this.#kill(edges, 'SIGKILL');
      case 'freezeEdge':
        return this.#freeze(edges);
      case 'killWebhooks':
        return this.#kill(webhooks, 'SIGKILL');
      case 'freezeWebhooks':
        return this.#freeze(webhooks);
      case 'killBatches':
        return this.#kill(batches, 'SIGKILL');
      case 'killRedis':
        return this.#restartRedis('SIGKILL');
      case 'restartRedis':
        return this.#restartRedis('SIGTERM');
      case 'cutRedis':
        return this.#disturb(redisRelays, (relay) => relay.cut());
      case 'swallowRedis':
        return this.#disturb(redisRelays, (relay) => relay.swallow());
      case 'delayRedis':
        return this.#delay(redisRelays);
      case 'cutClients':
        return this.#disturb(clientRelays, (relay) => relay.cut());
      case 'delayClients':
        return this.#delay(clientRelays);
    }
  }

  #kill(victims: readonly Victim[], signal: 'SIGKILL' | 'SIGTERM'): boolean {
    return this.#hit(victims, (victim) => victim.restart(signal));
  }

  #freeze(victims: readonly Victim[]): boolean {
    const ms = integerFrom(this.#rng, 500, 6000);
    return this.#hit(victims, (victim) => victim.freeze(ms));
  }

  #hit(victims: readonly Victim[], act: (victim: Victim) => Promise<void>): boolean {
    const standing = victims.filter(({ isUp }) => isUp);
    if (standing.length < 2) return false;
    this.#recover(act(pickFrom(this.#rng, standing)));
    return true;
  }

  #disturb(relays: readonly Relay[], act: (relay: Relay) => void): boolean {
    act(pickFrom(this.#rng, relays));
    return true;
  }

  #delay(relays: readonly Relay[]): boolean {
    const ms = integerFrom(this.#rng, 100, 2500);
    return this.#disturb(relays, (relay) => relay.delay(ms));
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
