import { Webhook } from 'standardwebhooks';
import { Webhook as SvixWebhook } from 'svix';
import {
  answering,
  dropping,
  hanging,
  ok,
  openReceiver,
  type Received,
  type Receiver,
  type Respond,
} from '../support/receivers.ts';

/**
 * What receivers do with what they get, each as often as it stands here: `moody` answers 500,
 * drops, hangs and takes in turns; `away` drops all at first, for what stands for an hour, and
 * takes all then.
 */
export const CONDUCTS = [
  ...['well', 'well', 'well', 'well', 'well', 'moody', 'moody', 'away', 'away'],
  ...['failing', 'hanging', 'dropping', 'redirecting', 'gone'],
] as const;

export type Conduct = (typeof CONDUCTS)[number];

/** Takes all that comes to it sooner or later, so that nothing for it may end as a dead letter. */
export function isReliable(conduct: Conduct): boolean {
  return conduct === 'well' || conduct === 'away';
}

export interface Taken {
  readonly webhookId: string;
  readonly type: string;
  readonly jobId: string;
}

/** Receivers of every conduct, and what they took: answered with 2xx, and verified. */
export class ChaosReceivers implements AsyncDisposable {
  readonly secret = `whsec_${Buffer.from('no secret at all, but 32 bytes..').toString('base64')}`;
  readonly taken: Taken[] = [];
  numUnverified = 0;
  readonly #receiverByConduct = new Map<Conduct, Receiver>();
  #elsewhere: Receiver | null = null;

  static async open(awayMs: number): Promise<ChaosReceivers> {
    const receivers = new ChaosReceivers();
    const elsewhere = await openReceiver(ok);
    receivers.#elsewhere = elsewhere;
    for (const [conduct, respond] of receivers.#responds(awayMs, elsewhere.url)) {
      receivers.#receiverByConduct.set(conduct, await openReceiver(respond));
    }
    return receivers;
  }

  #responds(awayMs: number, elsewhereUrl: string): Map<Conduct, Respond> {
    const take: Respond = (received, response) => {
      this.#take(received);
      ok(received, response);
    };
    const moods = [answering(500), dropping, hanging, take];
    const startMs = Date.now();
    let numMoods = 0;
    return new Map<Conduct, Respond>([
      ['well', take],
      ['moody', (...call) => moods[numMoods++ % moods.length]?.(...call)],
      ['away', (...call) => (Date.now() - startMs < awayMs ? dropping : take)(...call)],
      ['failing', answering(500)],
      ['hanging', hanging],
      ['dropping', dropping],
      ['redirecting', answering(307, { location: elsewhereUrl })],
      ['gone', answering(410)],
    ]);
  }

  /** Deliveries that followed a redirect. */
  get numMisled(): number {
    return this.#elsewhere?.received.length ?? 0;
  }

  get numReceived(): number {
    const counts = Array.from(this.#receiverByConduct.values(), ({ received }) => received.length);
    return counts.reduce((sum, count) => sum + count, 0);
  }

  urlOf(conduct: Conduct): string {
    return this.#receiverByConduct.get(conduct)?.url ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const receiver of this.#receiverByConduct.values()) await receiver[Symbol.asyncDispose]();
    await this.#elsewhere?.[Symbol.asyncDispose]();
  }

  #take({ headers, body }: Received): void {
    try {
      new Webhook(this.secret).verify(body, headers);
      new SvixWebhook(this.secret).verify(body, headers);
    } catch {
      this.numUnverified += 1;
      return;
    }
    const { type, data } = JSON.parse(body);
    this.taken.push({ webhookId: headers['webhook-id'] ?? '', type, jobId: data.id });
  }
}
