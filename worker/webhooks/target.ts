import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { faultOfUrl, isForbiddenAddress } from '../../shared/protocol/webhook-url.ts';

export interface Address {
  readonly address: string;
  readonly family: number;
}

/** All addresses of a host name, asked for once. */
export type Resolve = (hostname: string) => Promise<readonly Address[]>;

export const resolveByDns: Resolve = (hostname) => lookup(hostname, { all: true });

export type Target =
  | { readonly type: 'allowed'; readonly url: URL; readonly addresses: readonly Address[] }
  | { readonly type: 'refused'; readonly reason: string }
  | { readonly type: 'unresolved'; readonly reason: string };

export interface TargetOptions {
  readonly resolve: Resolve;
  /** For development: plain http, and addresses of this machine and its network. */
  readonly isInsecureAllowed: boolean;
}

/** Where a webhook may go: every address was checked, so that only these may be connected to. */
export async function toTarget(
  text: string,
  { resolve, isInsecureAllowed }: TargetOptions,
): Promise<Target> {
  const fault = faultOfUrl(text, { isInsecureAllowed });
  if (fault !== null) return { type: 'refused', reason: `the URL ${fault}` };
  const url = new URL(text);
  const found = await addressesOf(url, resolve);
  if (typeof found === 'string') return { type: 'unresolved', reason: found };
  const forbidden = found.find(({ address }) => !isInsecureAllowed && isForbiddenAddress(address));
  if (forbidden !== undefined) {
    return { type: 'refused', reason: `${forbidden.address} is not a public address` };
  }
  return { type: 'allowed', url, addresses: found };
}

/**
 * URLs have spelled out every literal address by now: octal, hexadecimal and decimal ones alike.
 */
async function addressesOf(url: URL, resolve: Resolve): Promise<readonly Address[] | string> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const family = isIP(host);
  if (family !== 0) return [{ address: host, family }];
  try {
    const addresses = await resolve(host);
    return addresses.length > 0 ? addresses : `${host} has no address`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
