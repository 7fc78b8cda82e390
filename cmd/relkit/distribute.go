package main

import (
	"github.com/urfave/cli/v2"

	"github.com/relkit/relkit/pkg/distribute"
	"github.com/relkit/relkit/pkg/failure"
	"github.com/relkit/relkit/pkg/format/channel"
	"github.com/relkit/relkit/pkg/format/signature"
)

func distributeCommand(e *env) *cli.Command {
	return &cli.Command{
		Name:      "distribute",
		Category:  groupDistribute,
		Usage:     "push artifacts, and publish them in channels",
		ArgsUsage: "ARTIFACT…",
		Flags: append([]cli.Flag{
			&cli.StringSliceFlag{Name: "to", Usage: "push to `DEST`: dir:PATH, a folder for any web server", Required: true},
			&cli.StringFlag{Name: "repo", Usage: "push into the repository `NAME` (default: the patch's product)"},
			&cli.StringFlag{Name: "channel", Usage: "publish in the channel `NAME`"},
			&cli.StringFlag{Name: "as", Usage: "name the signature after `ROLE`", Value: "release"},
			&cli.StringFlag{Name: "allowed-signers", Usage: "whose channel documents may be changed: `FILE` (default: those of the key alone)"},
			&cli.StringFlag{Name: "rollout", Usage: "widen the release's share of machines as `SHARE[@TIME],…` says, as in 1%,10%@24h,100%@72h"},
			&cli.StringFlag{Name: "cap", Usage: "hold the newest release at `SHARE` of the machines"},
			&cli.BoolFlag{Name: "halt", Usage: "nobody takes anything: what is offered is bad"},
			&cli.BoolFlag{Name: "pause", Usage: "nobody takes anything for now"},
			&cli.BoolFlag{Name: "resume", Usage: "end a halt or a pause"},
			&cli.BoolFlag{Name: "refresh", Usage: "say that the channel stands as it is, for cron"},
			&cli.StringFlag{Name: "expires", Usage: "the status is valid for `SPAN`", Value: "30d"},
			&cli.StringFlag{Name: "floor", Usage: "no machine goes back below `VERSION`"},
			&cli.StringFlag{Name: "min-base", Usage: "the release is reached from `VERSION` or later only"},
			&cli.StringSliceFlag{Name: "label", Usage: "the release is for machines labelled `NAME=VALUE,…`"},
			&cli.StringSliceFlag{Name: "allow", Usage: "the machines `KEY,…` get the release whatever its share and labels"},
			&cli.StringSliceFlag{Name: "deny", Usage: "the machines `KEY,…` do not get the release"},
			&cli.BoolFlag{Name: "list", Usage: "list the channels"},
			dryRunFlag(),
		}, signerFlags()...),
		Action: func(c *cli.Context) error {
			names, err := e.operands(c, 0, -1)
			if err != nil {
				return err
			}
			switch {
			case c.Bool("list"):
				return e.listChannels(c, names)
			case c.String("channel") != "":
				return e.publish(c, names)
			}
			return e.push(c, names)
		},
	}
}

// distributeResult is relkit.distribute/v1: the artifacts that were pushed, and
// the channel as it stands now.
type distributeResult struct {
	Schema    string                `json:"schema"`
	Artifacts []distribute.Pushed   `json:"artifacts"`
	Channel   *distribute.Published `json:"channel,omitempty"`
}

func (e *env) printDistributed(pushed []distribute.Pushed, channel *distribute.Published, dryRun bool) error {
	var lines []string
	for _, p := range pushed {
		lines = append(lines, p.Reference)
	}
	if channel != nil {
		if len(lines) == 0 {
			lines = channel.References
		}
		what := "channel published"
		if dryRun {
			what = "channel would be published"
		}
		e.Log.Info(what, "channel", channel.Channel, "state", channel.State, "releases-serial", channel.ReleasesSerial, "status-serial", channel.StatusSerial,
			"expires", channel.Expires.Format("2006-01-02T15:04:05Z07:00"))
	}
	return e.print(distributeResult{"relkit.distribute/v1", append([]distribute.Pushed{}, pushed...), channel}, lines...)
}

// push is distribute without a channel.
func (e *env) push(c *cli.Context, names []string) error {
	for _, flag := range []string{"key", "agent", "pubkey", "rollout", "cap", "halt", "pause", "resume", "refresh", "floor", "min-base", "label", "allow", "deny", "allowed-signers"} {
		if c.IsSet(flag) {
			return failure.Errorf(failure.Usage, "--%s is for a channel: missing flag --channel", flag)
		}
	}
	if _, err := e.operands(c, 1, -1); err != nil {
		return err
	}
	o, done := e.pushOptions(c, names)
	defer done()
	pushed, err := distribute.Push(c.Context, names, o)
	if err != nil {
		return err
	}
	return e.printDistributed(pushed, nil, o.DryRun)
}

func (e *env) pushOptions(c *cli.Context, names []string) (o distribute.PushOptions, done func()) {
	p := e.progress()
	to := c.StringSlice("to")
	p.Start(distribute.TotalSize(names)*int64(len(to)), "pushing")
	return distribute.PushOptions{To: to, Repo: c.String("repo"), DryRun: c.Bool("dry-run"), Log: e.Log, Progress: p.Add}, p.Done
}

// publish is distribute with a channel.
func (e *env) publish(c *cli.Context, names []string) error {
	o, err := e.channelOptions(c)
	if err != nil {
		return err
	}
	if len(names) == 0 && !changesChannel(c) {
		return failure.Errorf(failure.Usage, "nothing to publish: no artifact, and no flag that changes the channel, as --refresh does that says it stands as it is")
	}
	signer, release, err := e.signer(c)
	if err != nil {
		return err
	}
	defer release()
	if o.Signer = signer; signer == nil {
		return errNoSigner
	}
	push, done := e.pushOptions(c, names)
	defer done()
	pushed, published, err := distribute.Publish(c.Context, names, o, push)
	if err != nil {
		return err
	}
	return e.printDistributed(pushed, published, o.DryRun)
}

func changesChannel(c *cli.Context) bool {
	for _, flag := range []string{"rollout", "cap", "halt", "pause", "resume", "refresh", "floor", "min-base", "label", "allow", "deny"} {
		if c.IsSet(flag) {
			return true
		}
	}
	return false
}

func (e *env) channelOptions(c *cli.Context) (o distribute.ChannelOptions, err error) {
	o = distribute.ChannelOptions{
		To: c.StringSlice("to"), Repo: c.String("repo"), Channel: c.String("channel"), Role: c.String("as"), Cap: c.String("cap"), DryRun: c.Bool("dry-run"), Log: e.Log,
		Edit: distribute.Edit{
			Rollout: c.String("rollout"), Floor: c.String("floor"), MinBase: c.String("min-base"),
			Allow: commaList(c.StringSlice("allow")), Deny: commaList(c.StringSlice("deny")),
		},
	}
	if err := signature.ValidRole(o.Role); err != nil {
		return o, failure.As(failure.Usage, err)
	}
	if o.State, err = channelState(c); err != nil {
		return o, err
	}
	if o.Edit.Labels, err = labelsValue(c, "label"); err != nil {
		return o, err
	}
	if o.Expires, err = spanValue(c, "expires"); err != nil {
		return o, err
	}
	if o.Now, err = e.stamp(); err != nil {
		return o, err
	}
	if c.IsSet("allowed-signers") {
		policy, err := channelPolicy(c)
		if err != nil {
			return o, err
		}
		o.Policy = &policy
	}
	return o, nil
}

func channelState(c *cli.Context) (string, error) {
	state, given := "", ""
	for flag, s := range map[string]string{"halt": channel.Halted, "pause": channel.Paused, "resume": channel.Active} {
		if !c.Bool(flag) {
			continue
		}
		if given != "" {
			return "", failure.Errorf(failure.Usage, "--halt, --pause and --resume exclude each other")
		}
		state, given = s, flag
	}
	return state, nil
}

// channelList is relkit.channel-list/v1.
type channelList struct {
	Schema   string              `json:"schema"`
	Channels []distribute.Listed `json:"channels"`
}

func (e *env) listChannels(c *cli.Context, names []string) error {
	if len(names) > 0 {
		return failure.Errorf(failure.Usage, "unexpected operand %q with --list", names[0])
	}
	list := channelList{Schema: "relkit.channel-list/v1", Channels: []distribute.Listed{}}
	var lines []string
	for _, to := range c.StringSlice("to") {
		found, err := distribute.List(c.Context, to, c.String("repo"), c.String("channel"), e.Now())
		if err != nil {
			return err
		}
		for _, l := range found {
			list.Channels = append(list.Channels, l)
			lines = append(lines, l.Lines(e.Now())...)
		}
	}
	return e.print(list, lines...)
}
