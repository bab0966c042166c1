import type { RedisClient } from './redis-connection.ts';

export interface ChannelListener {
  onMessage(message: string): void;
  /** Messages may have been missed; from here on none are. */
  onGap(): void;
}

interface Channel {
  readonly listeners: Set<ChannelListener>;
  /** Settles with the acknowledgement. */
  readonly acknowledged: Promise<unknown>;
}

/**
 * All subscriptions of a process on one connection: a channel is subscribed to while it has
 * listeners, and again after every reconnect.
 */
export class Subscriptions {
  readonly #subscriber: RedisClient;
  readonly #isCluster: boolean;
  readonly #channelByName = new Map<string, Channel>();

  constructor(subscriber: RedisClient, { isCluster }: { readonly isCluster: boolean }) {
    this.#subscriber = subscriber;
    this.#isCluster = isCluster;
    subscriber.on(isCluster ? 'smessage' : 'message', (name: string, message: string) => {
      for (const listener of this.#channelByName.get(name)?.listeners ?? []) {
        listener.onMessage(message);
      }
    });
    if (!isCluster) subscriber.on('ready', () => void this.#renew());
  }

  get numChannels(): number {
    return this.#channelByName.size;
  }

  /**
   * Resolves once Redis has acknowledged: whatever is published from then on is heard.
   *
   * @returns stops listening
   */
  async listen(name: string, listener: ChannelListener): Promise<() => void> {
    const channel = this.#channelByName.get(name) ?? this.#open(name);
    channel.listeners.add(listener);
    try {
      await channel.acknowledged;
    } catch (error) {
      this.#remove(name, channel, listener);
      throw error;
    }
    return () => this.#remove(name, channel, listener);
  }

  #open(name: string): Channel {
    const acknowledged = this.#isCluster
      ? this.#subscriber.ssubscribe(name)
      : this.#subscriber.subscribe(name);
    const channel = { listeners: new Set<ChannelListener>(), acknowledged };
    this.#channelByName.set(name, channel);
    return channel;
  }

  #remove(name: string, channel: Channel, listener: ChannelListener): void {
    channel.listeners.delete(listener);
    if (channel.listeners.size > 0 || this.#channelByName.get(name) !== channel) return;
    this.#channelByName.delete(name);
    const left = this.#isCluster
      ? this.#subscriber.sunsubscribe(name)
      : this.#subscriber.unsubscribe(name);
    left.catch(() => undefined); // a lost connection has unsubscribed already
  }

  async #renew(): Promise<void> {
    const names = [...this.#channelByName.keys()];
    if (names.length === 0) return;
    try {
      await this.#subscriber.subscribe(...names);
    } catch {
      return; // lost again: the next connection renews
    }
    for (const name of names) {
      for (const listener of this.#channelByName.get(name)?.listeners ?? []) listener.onGap();
    }
  }
}
