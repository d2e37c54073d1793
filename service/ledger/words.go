package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// StatusNames are the names of all statuses, for people.
func StatusNames() string {
	names := make([]string, len(Statuses))
	for i, s := range Statuses {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// ParseStatuses reads the names of statuses as people write them. None means Open and
// Held; "all" alone means every status, which is nil.
func ParseStatuses(names []string) (statuses []Status, err error) {
	switch {
	case len(names) == 0:
		return []Status{Open, Held}, nil
	case len(names) == 1 && names[0] == "all":
		return nil, nil
	}
	var problems []error
	for _, name := range names {
		if !slices.Contains(Statuses, Status(name)) {
			problems = append(problems, fmt.Errorf("%q is not one of %s, or all", name, StatusNames()))
			continue
		}
		statuses = append(statuses, Status(name))
	}
	return statuses, errors.Join(problems...)
}

// ParseMoment reads a duration, which counts back from now, or a time.
func ParseMoment(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days, "%d", &n); err == nil && fmt.Sprint(n) == days && n >= 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, errors.New("write how long ago (36h, 7d) or a time (2026-11-24, 2026-11-24T15:04:05Z)")
}
