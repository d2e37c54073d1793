/**
 * Returns the user whom a JWT names, its sub. It is not verified here: it decides only
 * whose writes are sent with it, and the server verifies it.
 */
export function subjectOf(token: string): string {
  try {
    const payload = (token.split('.')[1] ?? '').replace(/-/g, '+').replace(/_/g, '/');
    const percent = Array.from(atob(payload), (c) => '%' + c.charCodeAt(0).toString(16).padStart(2, '0'));
    const { sub } = JSON.parse(decodeURIComponent(percent.join(''))); // UTF-8, without TextDecoder
    if (typeof sub === 'string' && sub !== '') {
      return sub;
    }
  } catch {
    // as if it had no sub
  }
  throw new Error('getToken must return a JWT with a sub');
}
