package console

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// header is what the page sends with each change. Other sites cannot send it without
// asking first, and this server permits nobody.
const header = "Postern-Console"

// guard keeps other sites from using the console through an operator's browser, and sets
// the headers that keep scripts of others out of the page.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set := w.Header().Set
		set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		set("X-Content-Type-Options", "nosniff")
		set("Referrer-Policy", "no-referrer")
		set("Cross-Origin-Opener-Policy", "same-origin")
		set("Cross-Origin-Resource-Policy", "same-origin")
		set("Cache-Control", "no-store")
		switch {
		case !isDirect(r.Host):
			http.Error(w, "The console is reached as localhost or by an IP address, because a name may belong to another site: use fly proxy, or ssh -L.", http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet && r.Method != http.MethodHead && !isOwn(r):
			http.Error(w, "Changes come from the console's own page.", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isDirect reports whether a Host header names no other site's domain. A site whose name
// is made to resolve to this machine would otherwise be the console's own origin.
func isDirect(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

// isOwn reports whether the console's own page has sent a request.
func isOwn(r *http.Request) bool {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	return r.Header.Get(header) != "" && (site == "" || site == "same-origin") && (origin == "" || origin == "http://"+r.Host || origin == "https://"+r.Host)
}
