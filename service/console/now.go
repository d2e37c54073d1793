package console

import (
	"context"
	"net/http"
	"time"

	"postern/service/doctor"
	"postern/service/upload"
)

// Server is the running service, as the view Now shows it.
type Server interface {
	State() State // does not use the database
	Examine(ctx context.Context) []doctor.Finding
}

// State is how the service is at the moment.
type State struct {
	NotReady string       `json:"not_ready,omitzero"` // why
	Minutes  []Minute     `json:"minutes"`            // the last hour, the oldest first
	Pool     Pool         `json:"pool"`
	KeySets  []KeySet     `json:"key_sets"`
	Policies Policies     `json:"policies"`
	Stuck    []StuckQueue `json:"stuck"`            // the oldest first
	Waiting  *Waiting     `json:"waiting,omitzero"` // rejected writes, when they were last counted
}

// Minute is what happened in a minute; the last one is not over.
type Minute struct {
	At       time.Time                 `json:"at"`
	Requests map[string]float64        `json:"requests"` // of /api, by the first digit of their HTTP status
	Results  map[upload.Status]float64 `json:"results"`  // transactions
	Median   *float64                  `json:"median"`   // seconds of uploads; nil if there were none
	Slow     *float64                  `json:"slow"`     // seconds that 95 % of them took at most
}

// Pool is the database connections.
type Pool struct {
	Busy        int32   `json:"busy"`
	Idle        int32   `json:"idle"`
	Connecting  int32   `json:"connecting"`
	Most        int32   `json:"most"`
	Waits       int64   `json:"waits"` // of requests for a connection, since the start
	WaitSeconds float64 `json:"wait_seconds"`
}

// KeySet is that of an issuer.
type KeySet struct {
	Issuer    string    `json:"issuer"`
	Keys      int       `json:"keys"`
	FetchedAt time.Time `json:"fetched_at,omitzero"`
}

// Policies is the set in force, and what went wrong last.
type Policies struct {
	Folder   string    `json:"folder"`
	SHA256   string    `json:"sha256"`
	Content  string    `json:"content"` // numbers of tables and rules
	LoadedAt time.Time `json:"loaded_at"`
	Problem  string    `json:"problem,omitzero"` // why the newest files are not in force
	FailedAt time.Time `json:"failed_at,omitzero"`
	Failure  string    `json:"failure,omitzero"` // of the last reload that failed
}

// StuckQueue is a device's queue whose first transaction keeps failing.
type StuckQueue struct {
	Issuer  string    `json:"issuer"`
	Subject string    `json:"subject"`
	Reason  string    `json:"reason"`
	Since   time.Time `json:"since"`
	Last    time.Time `json:"last"`
}

// Waiting is how many rejected writes wait for a decision.
type Waiting struct {
	Open int64 `json:"open"`
	Held int64 `json:"held"`
}

func (c *Console) now() view {
	v := view{Name: "now", Title: "Now"}
	if c.Server != nil {
		v.routes = map[string]route{
			"GET now":         func(context.Context, *http.Request) (any, error) { return c.Server.State(), nil },
			"POST now/doctor": c.examine,
		}
	}
	return v
}

func (c *Console) examine(ctx context.Context, _ *http.Request) (any, error) {
	findings := c.Server.Examine(ctx)
	if findings == nil {
		findings = []doctor.Finding{}
	}
	return map[string]any{"findings": findings}, nil
}
