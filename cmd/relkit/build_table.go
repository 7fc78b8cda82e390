package main

import (
	"time"

	"github.com/relkit/relkit/pkg/build"
	"github.com/relkit/relkit/pkg/format/record"
	"github.com/relkit/relkit/pkg/ui"
)

// watchBuild shows a row a cell on a terminal where the lines of the steps do not
// go by anyway; progress, which counts steps, has the place otherwise.
func (e *env) watchBuild(cells []build.Cell, opt *build.Options) *ui.Table {
	if e.Verbose || e.Quiet {
		return nil
	}
	rows := make([]ui.Row, len(cells))
	for i, c := range cells {
		rows[i] = ui.Row{Name: c.Name, What: "waiting", State: ui.Waiting}
	}
	table := e.console.Table(rows)
	if table == nil {
		return nil
	}
	opt.Progress = ui.Silent()
	began := make([]time.Time, len(cells)) // each touched by its own cell alone
	opt.Watch = func(i int, s build.Stage) {
		if began[i].IsZero() {
			began[i] = s.At
		}
		r := ui.Row{Name: cells[i].Name, What: s.What, Since: began[i], Took: s.At.Sub(began[i])}
		switch s.Status {
		case "":
		case record.BuildSuccess:
			r.State = ui.Succeeded
		default:
			r.State = ui.Failed
		}
		table.Set(i, r)
	}
	return table
}
