package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A machine may send wrong passwords in a row, and then one at each interval.
const (
	wrongInARow   = 10
	wrongInterval = 6 * time.Second
	maxMachines   = 1000 // whose wrong passwords are remembered
)

const closedText = `The console answers requests of its own machine only, because no password is set.

Reach it from there: ssh -L 9091:localhost:9091 user@server, or kubectl port-forward, and then http://localhost:9091/console.
Or set POSTERN_CONSOLE_PASSWORD to at least 16 bytes, such as openssl rand -hex 16 prints. On Fly: fly secrets set
POSTERN_CONSOLE_PASSWORD=…, then fly proxy 9091, and any user name with that password.
`

// signIn asks requests from other machines for the password. Without one, it refuses them.
type signIn struct {
	password string
	next     http.Handler

	mu    sync.Mutex
	wrong map[netip.Addr]*rate.Limiter
}

func (s *signIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	machine := address.Addr().Unmap()
	switch {
	case err == nil && machine.IsLoopback() && !isForwarded(r):
		s.next.ServeHTTP(w, r)
	case s.password == "":
		http.Error(w, closedText, http.StatusForbidden)
	default:
		s.ask(w, r, machine)
	}
}

// isForwarded reports whether a proxy on this machine says that a request is another's.
func isForwarded(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return false
}

func (s *signIn) ask(w http.ResponseWriter, r *http.Request, machine netip.Addr) {
	_, password, sent := r.BasicAuth()
	isRight, mayTry := false, true
	if sent {
		isRight, mayTry = s.try(password, machine)
	}
	switch {
	case !mayTry:
		w.Header().Set("Retry-After", "6")
		http.Error(w, "Too many wrong passwords came from this machine. Wait some seconds, and try again.", http.StatusTooManyRequests)
	case !isRight:
		w.Header().Set("WWW-Authenticate", `Basic realm="Postern console", charset="UTF-8"`)
		http.Error(w, "The console asks other machines for POSTERN_CONSOLE_PASSWORD, with any user name.", http.StatusUnauthorized)
	default:
		s.next.ServeHTTP(w, r)
	}
}

// try compares a password. It compares none while its machine has sent too many wrong ones.
func (s *signIn) try(password string, machine netip.Addr) (isRight, mayTry bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wrong := s.wrong[machine]
	if wrong != nil && wrong.Tokens() < 1 {
		return false, false
	}
	given, want := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(s.password))
	if subtle.ConstantTimeCompare(given[:], want[:]) == 1 {
		return true, true
	}
	if wrong == nil {
		if len(s.wrong) >= maxMachines {
			clear(s.wrong)
		}
		wrong = rate.NewLimiter(rate.Every(wrongInterval), wrongInARow)
		s.wrong[machine] = wrong
	}
	wrong.Allow()
	return false, true
}
