package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern/service/ledger"
)

func rejectedDismissCommand() *cobra.Command {
	var (
		filter      filterFlags
		by          byFlags
		allMatching bool
		expire      bool
	)
	cmd := &cobra.Command{
		Use:   "dismiss [ID...]",
		Short: "Close rejected writes that are not wanted",
		Long: `Close rejected writes that are not wanted. A device that still holds one is told,
when it sends it again, that it may drop it.`,
		RunE: withRecords(func(cmd *cobra.Command, r *records, ids []string) error {
			who, err := by.parse()
			if err != nil {
				return err
			}
			if err := idsOr(allMatching, ids); err != nil {
				return err
			}
			as := ledger.Dismissed
			if expire {
				as = ledger.Expired
			}
			if !allMatching {
				return r.dismissNamed(cmd, ids, as, who)
			}
			f, err := filter.filter()
			if err != nil {
				return err
			}
			return r.dismissAll(cmd, f, as, who)
		}),
	}
	filter.add(cmd)
	by.add(cmd)
	cmd.Flags().BoolVar(&allMatching, "all-matching", false, "all that the filters leave")
	cmd.Flags().BoolVar(&expire, "expire", false, "close them as expired: not judged, only old")
	return cmd
}

func (r *records) dismissNamed(cmd *cobra.Command, ids []string, as ledger.Status, by ledger.By) error {
	for _, id := range ids {
		record, err := r.Record(cmd.Context(), id)
		if err != nil {
			return err
		}
		closed, err := r.Close(cmd.Context(), []string{record.ID}, as, by, ledger.Own{})
		switch {
		case err != nil:
			return err
		case len(closed) == 0:
			return fmt.Errorf("%s is closed already: it is %s", record.ID, record.Status)
		}
		fmt.Fprintln(cmd.OutOrStdout(), record.ID, as)
	}
	return nil
}

// dismissAll closes a page at a time, each in a database transaction.
func (r *records) dismissAll(cmd *cobra.Command, f ledger.Filter, as ledger.Status, by ledger.By) error {
	total, err := r.Count(cmd.Context(), f)
	if err != nil {
		return err
	}
	var (
		done int
		ids  []string
	)
	flush := func() error {
		closed, err := r.Close(cmd.Context(), ids, as, by, ledger.Own{})
		if err != nil {
			return err
		}
		done, ids = done+len(closed), ids[:0]
		fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d %s\n", done, total, as)
		return nil
	}
	err = r.each(cmd, f, func(record ledger.Record) error {
		if ids = append(ids, record.ID); len(ids) < commandPage {
			return nil
		}
		return flush()
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	return flush()
}
