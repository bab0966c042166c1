import ipaddr from 'ipaddr.js';

export const MAX_URL_LENGTH = 2048;

/** Names that mean this machine or its network, whoever asks; each with all that ends in it. */
const LOCAL_NAMES = ['localhost', 'local', 'internal', 'intranet', 'lan', 'home.arpa'];

/** Answered by Azure's machines for themselves, though it looks like any other. */
const FORBIDDEN_IPV4 = new Set(['168.63.129.16']);

/** Of all that is global unicast. */
const GLOBAL_IPV6 = ipaddr.IPv6.parseCIDR('2000::/3');

/**
 * Whether a webhook must not be sent to an address: all but what is public and plainly so.
 * Addresses that stand for others (mapped, translated, tunnelled) are refused whatever they stand
 * for.
 *
 * @param text as a resolver gives it, or a URL's host; what is no address is forbidden
 */
export function isForbiddenAddress(text: string): boolean {
  if (!ipaddr.isValid(text)) return true;
  const address = ipaddr.parse(text);
  if (address.range() !== 'unicast') return true;
  if (address instanceof ipaddr.IPv6) return !address.match(GLOBAL_IPV6) || isIsatap(address);
  return FORBIDDEN_IPV4.has(address.toString());
}

/** Whether an address of any network stands for one of IPv4: RFC 5214, `::0:5efe:a.b.c.d`. */
function isIsatap({ parts }: ipaddr.IPv6): boolean {
  return (parts[4] === 0 || parts[4] === 0x200) && parts[5] === 0x5efe;
}

export interface UrlRules {
  /** For development: plain http, and addresses of this machine and its network. */
  readonly isInsecureAllowed: boolean;
}

/**
 * What is wrong with the URL of a webhook as far as can be seen without asking a resolver; what its
 * name resolves to is checked when it is connected to.
 *
 * @returns `null` for nothing; else what to say after the name of the field
 */
export function faultOfUrl(text: string, { isInsecureAllowed }: UrlRules): string | null {
  if (text.length > MAX_URL_LENGTH) {
    return `has ${text.length} characters; the limit is ${MAX_URL_LENGTH}`;
  }
  if (!URL.canParse(text)) return 'is not a URL';
  const url = new URL(text);
  const protocols = isInsecureAllowed ? ['https:', 'http:'] : ['https:'];
  if (!protocols.includes(url.protocol)) {
    return `begins with ${url.protocol}; it must begin with ${protocols.join(' or ')}`;
  }
  if (url.username !== '' || url.password !== '') return 'holds credentials; leave them out';
  if (text.includes('#')) return 'holds a fragment; leave it out';
  return isInsecureAllowed ? null : faultOfHost(url.hostname);
}

/** @param hostname of a parsed URL: every spelling of an IPv4 address has become the usual one */
function faultOfHost(hostname: string): string | null {
  const host = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  if (ipaddr.isValid(host)) {
    return isForbiddenAddress(host) ? `names ${host}, which is not a public address` : null;
  }
  const isLocal = LOCAL_NAMES.some((name) => host === name || host.endsWith(`.${name}`));
  if (isLocal || !host.includes('.')) return `names ${host}, which is not a public name`;
  return null;
}
