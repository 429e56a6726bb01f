"""Definitions of services, as text for systemd, launchd and Windows' Task Scheduler. Pure."""

from __future__ import annotations

from xml.sax.saxutils import escape

from peer.service.definition import BAD_CONFIGURATION, Definition


def systemd_unit(definition: Definition) -> str:
    """A unit: stopped with SIGTERM so that the peer hands over, started again after a crash.

    A unit of the system gets less of it: the rest of the disk is read only, and homes are hidden
    unless the peer's directory is in one.
    """
    user = f"User={definition.user}\n" if definition.is_system else ""
    wanted_by = "multi-user.target" if definition.is_system else "default.target"
    return f"""\
[Unit]
Description=Homespun peer: lends this machine's device
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=600
StartLimitBurst=10

[Service]
Type=exec
{user}ExecStart={" ".join(_quoted(word) for word in definition.arguments)}
Restart=on-failure
RestartSec=5
RestartPreventExitStatus={BAD_CONFIGURATION}
KillMode=mixed
TimeoutStopSec={definition.stop_s}
Nice=10
NoNewPrivileges=yes
{_hardening(definition)}
[Install]
WantedBy={wanted_by}
"""


def launchd_plist(definition: Definition) -> str:
    """A property list; launchd sends SIGTERM and waits `ExitTimeOut` before it kills."""
    words = "".join(f"\n    <string>{escape(word)}</string>" for word in definition.arguments)
    user = (f"\n  <key>UserName</key>\n  <string>{escape(definition.user)}</string>"
            if definition.is_system else "")
    log = escape(str(definition.directory / "service.log"))
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" \
"http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>{definition.label}</string>
  <key>ProgramArguments</key>
  <array>{words}
  </array>{user}
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>30</integer>
  <key>ExitTimeOut</key>
  <integer>{definition.stop_s}</integer>
  <key>ProcessType</key>
  <string>Background</string>
  <key>StandardErrorPath</key>
  <string>{log}</string>
</dict>
</plist>
"""


def windows_task(definition: Definition) -> str:
    """A task that starts at logon (the system's: with the machine) and again after a crash."""
    program, *words = definition.arguments
    trigger = "BootTrigger" if definition.is_system else "LogonTrigger"
    logon = "S4U" if definition.is_system else "InteractiveToken"
    return f"""\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>Homespun peer: lends this machine's device</Description>
  </RegistrationInfo>
  <Triggers>
    <{trigger}>
      <Enabled>true</Enabled>
    </{trigger}>
  </Triggers>
  <Principals>
    <Principal id="Owner">
      <UserId>{escape(definition.user)}</UserId>
      <LogonType>{logon}</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>7</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>10</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Owner">
    <Exec>
      <Command>{escape(program)}</Command>
      <Arguments>{escape(" ".join(_windows_quoted(word) for word in words))}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


def _hardening(definition: Definition) -> str:
    if not definition.is_system:
        return ""
    return f"""\
ProtectSystem=strict
ReadWritePaths={_quoted(str(definition.directory))}
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
"""


def _quoted(word: str) -> str:
    """A word of a unit's command line: systemd takes backslashes, percents and dollars itself."""
    kept = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{kept}"' if any(character in word for character in ' "\\\';\t') else kept


def _windows_quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word
