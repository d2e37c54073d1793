package service

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a folder of policies must be quiet before it is read: an
// editor writes in several steps.
const settle = 200 * time.Millisecond

// watchPolicies reads the policies again when their folder changes or SIGHUP
// comes, until ctx ends.
func (s *Service) watchPolicies(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	var changes <-chan fsnotify.Event
	if dir := s.policies.Dir(); dir != "" {
		watcher, err := fsnotify.NewWatcher()
		if err == nil {
			defer watcher.Close()
			err = watcher.Add(dir)
			changes = watcher.Events
		}
		if err != nil {
			s.logger.Warn("cannot watch the policies, which are read again on SIGHUP alone", "error", err)
		}
	}
	quiet := time.NewTimer(0)
	<-quiet.C
	for {
		select {
		case <-changes:
			quiet.Reset(settle)
		case <-quiet.C:
			s.reloadPolicies()
		case <-hangup:
			s.reloadPolicies()
		case <-ctx.Done():
			return
		}
	}
}

func (s *Service) reloadPolicies() {
	changed, err := s.policies.Reload(s.catalog.Snapshot())
	switch {
	case err != nil:
		s.logger.Error("the new policies are not taken, those in force stay", "sha256", s.policies.SHA256(), "error", err)
	case changed:
		s.logger.Info("policies reloaded", "sha256", s.policies.SHA256())
		if snapshot := s.catalog.Snapshot(); snapshot != nil {
			if set, err := s.policies.For(snapshot); err == nil {
				s.prepareLookups(set)
			}
		}
	}
}
