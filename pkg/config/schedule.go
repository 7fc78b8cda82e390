package config

import (
	"slices"
	"strings"
)

// Dependent tells whether a schedule follows other builders.
func (s *Schedule) Dependent() bool {
	return s.On == "success" || s.On == "failure" || s.On == "always"
}

// ScheduleBuilders are the builders that a schedule builds, in the order of the
// file: those it names; where it names none or "*", all but those that it follows.
func (r *Relkit) ScheduleBuilders(s *Schedule) []string {
	return r.choose(s.Builders, len(s.Builders) == 0, s.Of)
}

// ScheduleOf are the builders that a dependent schedule follows. "*" is all but
// those that it builds.
func (r *Relkit) ScheduleOf(s *Schedule) []string {
	return r.choose(s.Of, false, s.Builders)
}

// choose lists the builders of names in the order of the file; "*" or all is all
// but those in not.
func (r *Relkit) choose(names []string, all bool, not []string) []string {
	all = all || slices.Contains(names, "*")
	var list []string
	for _, b := range r.Builders {
		if slices.Contains(names, b.Name) || all && !slices.Contains(not, b.Name) {
			list = append(list, b.Name)
		}
	}
	return list
}

// checkFollowing finds schedules that would build for ever: each builds what the
// next one follows, in a circle.
func (r *Relkit) checkFollowing() {
	follows := map[string][]string{} // what is built after a builder
	for i := range r.Schedules {
		s := &r.Schedules[i]
		if !s.Dependent() {
			continue
		}
		for _, of := range r.ScheduleOf(s) {
			follows[of] = append(follows[of], r.ScheduleBuilders(s)...)
		}
	}
	for i := range r.Schedules {
		s := &r.Schedules[i]
		if !s.Dependent() {
			continue
		}
		for _, of := range r.ScheduleOf(s) {
			if trail := circle(follows, of, of, nil); trail != nil {
				r.mistakef([]any{"schedule", i, "of"}, "schedule.of: a circle: %s", strings.Join(trail, ", then "))
				return
			}
		}
	}
}

// circle is a way from one builder to another, both ends included; nil where
// there is none.
func circle(next map[string][]string, from, to string, trail []string) []string {
	trail = append(trail, from)
	for _, n := range next[from] {
		if n == to {
			return append(trail, n)
		}
		if slices.Contains(trail, n) {
			continue
		}
		if found := circle(next, n, to, trail); found != nil {
			return found
		}
	}
	return nil
}
