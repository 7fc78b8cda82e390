package main

import (
	"net"

	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/transport/serve"
)

func serveCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Category:  groupDistribute,
		Usage:     "serve artifacts over HTTP, and take in reports",
		ArgsUsage: "DIR",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "listen on `ADDR:PORT`; port 0 takes a free one", Value: "127.0.0.1:8080"},
			&cli.StringFlag{Name: "intake", Usage: "append posted JSON documents to a file a day under `DIR`"},
		},
		Action: func(c *cli.Context) error {
			dirs, err := e.operands(c, 1, 1)
			if err != nil {
				return err
			}
			files, err := serve.OpenFiles(dirs[0])
			if err != nil {
				return failure.As(failure.Usage, err)
			}
			defer files.Close()
			o := serve.Options{Log: e.Log, Access: e.Verbose}
			if dir := c.String("intake"); dir != "" {
				if o.Intake, err = serve.NewIntake(dir, e.Now, e.Log); err != nil {
					return err
				}
			}
			l, err := net.Listen("tcp", c.String("listen"))
			if err != nil {
				return err
			}
			// A connection that comes before Run waits in the listener's queue.
			if err := e.print(serving{Schema: "relkit.serve/v1", URL: "http://" + l.Addr().String()}, "http://"+l.Addr().String()); err != nil {
				l.Close()
				return err
			}
			return serve.Run(c.Context, l, serve.Handler(files, o), e.Log)
		},
	}
}

// serving is relkit.serve/v1: where the server listens.
type serving struct {
	Schema string `json:"schema"`
	URL    string `json:"url"`
}
