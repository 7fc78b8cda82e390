package config

import (
	"testing"
	"time"
)

// What is not given has a bound all the same, but for the memory; what is given stays.
func TestLimitsHaveDefaults(t *testing.T) {
	if got, want := (Limits{}).Bounded(), (Limits{Time: DefaultTime, Idle: DefaultIdle, Log: DefaultLog}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	given := Limits{Time: 48 * time.Hour, Idle: time.Second, Mem: 1, Log: 1}
	if got := given.Bounded(); got != given {
		t.Errorf("%+v, want %+v", got, given)
	}
}
