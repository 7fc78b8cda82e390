// Package serve is the embedded default of distribution: a web server over a
// folder of artifacts (pkg/transport/static) and whatever else lies there, and
// an intake for the reports that machines send home.
package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Options; the zero Options serves files only and logs nothing.
type Options struct {
	// Intake takes in what is posted; nil for nothing.
	Intake *Intake
	// Log hears of failures, and of every request where Access is set; may be nil.
	Log    *slog.Logger
	Access bool
}

// The times a client may take. A body of any length is fine as long as it moves:
// each writeSlice of it has writeTime.
const (
	headerTime = 10 * time.Second
	bodyTime   = 60 * time.Second
	idleTime   = 2 * time.Minute
	writeTime  = 60 * time.Second
	writeSlice = 1 << 20
	// stopTime is what requests under way have when the server is told to stop.
	stopTime = 10 * time.Second
)

// Run serves until ctx ends, lets the requests under way finish, and returns
// ctx's cause.
func Run(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       bodyTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		err := s.Shutdown(limit)
		if errors.Is(err, context.DeadlineExceeded) {
			err = s.Close()
		}
		stopped <- err
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if err := <-stopped; err != nil {
		log.Warn("stopping", "error", err)
	}
	return context.Cause(ctx)
}

// Handler answers GET and HEAD out of dir, and POST into the intake.
func Handler(dir *Files, opt Options) http.Handler {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch {
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			dir.ServeHTTP(w, r)
		case r.Method == http.MethodPost && opt.Intake != nil && (r.URL.Path == "/" || r.URL.Path == "/health"):
			opt.Intake.ServeHTTP(w, r)
		default:
			allow := "GET, HEAD"
			if opt.Intake != nil {
				allow += ", POST (to / and /health)"
			}
			w.Header().Set("Allow", "GET, HEAD, POST")
			http.Error(w, r.Method+" is not served here: "+allow, http.StatusMethodNotAllowed)
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		p := &paced{ResponseWriter: w, control: http.NewResponseController(w)}
		h.ServeHTTP(p, r)
		if opt.Access {
			opt.Log.Info("request", "from", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "range", r.Header.Get("Range"),
				"status", p.status, "bytes", p.bytes, "seconds", time.Since(begin).Seconds())
		}
	})
}
