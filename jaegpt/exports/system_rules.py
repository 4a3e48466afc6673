"""The wordings of Messenger and Instagram in English that stand in a person's name, each a rule for a whole line.

Both write them in the name of whoever acts: {own} is "You" or the sender, {them} the sender only, {any} also a name
that nobody of the thread bears (people are renamed), {one} the sender or the other of two people, {to} anybody.
"I called you.", "Mum called you." and "You called me." are human, so are "You left the chat." and "You responded", and
in a group "Anna called you." is when somebody else says it. Instagram often leaves out the last full stop; behind "You"
it may be missing only where people would hardly say so.
"""

_PLAIN_CALL = r"(?:(?:video |audio |voice )?call|(?:video|audio|voice) chat)"
_CALL = r"(?:group )?(?:video|audio|voice) (?:call|chat)"
_THINGS = (
    r"(?:attachment|photo|picture|image|video|GIF|sticker|location|voice message|voice clip|audio clip|audio|link|file|"
    r"document|place|page|song|playlist|album|poll|selfie|avatar|product|listing|memory|"
)
# What has its own button in Instagram: nobody else says "You sent a story highlight".
POSTS = r"post|reel|story|story highlight|highlight|contact card|contact|event|profile|note|thread|carousel|comment|ad"
ANY_THING = _THINGS + POSTS + r")"
_STORY = r"(?:story|stories|note|reel|post|highlight|live video)"
_WHOSE = r"(?:your|his|her|their|its)"
_QUOTED = r'["“].+["”]'
_SECURED = r"(?:secured|protected|encrypted) (?:with|by) end-to-end encryption"

# What somebody does to a chat, in their whole name: hardly anybody writes of themselves like this.
VERBS = (
    r"added|removed|changed|set|cleared|turned|created|started|stopped|ended|left|joined|pinned|unpinned|named|renamed|"
    r"sent|shared|unsent|missed|called|declined|reacted|liked|loved|replied|mentioned|voted|took|recorded|accepted|"
    r"approved|invited|updated|edited|deleted|made|muted|unmuted|enabled|disabled|allowed|restricted|upgraded|requested|"
    r"waved|poked|tagged|followed|reposted|is now|is no longer|is in|is using|was added|was removed|wasn['’]t notified"
)

RULES: tuple[tuple[str, str], ...] = (
    ("placeholder", r"{own} (?:sent|shared) (?:an?|\d+) (?:live )?" + ANY_THING + r"s?\."),
    ("placeholder", r"{them} (?:sent|shared) (?:an?|\d+) (?:live )?" + ANY_THING + r"s?"),
    ("placeholder", r"(?:You s|S)(?:ent|hared) (?:an?|\d+) (?:" + POSTS + r")s?"),
    ("placeholder", r"(?:{own} s|S)hared {to}['’]s? " + _STORY + r"\.?"),
    ("placeholder", r"(?:Unavailable message|(?:Message|Attachment|Content) unavailable)\.?"),
    ("placeholder", r"This (?:message|attachment|content|story|post|reel) is (?:no longer available|unavailable)\.?"),
    ("reaction", r"(?:Reacted|{own} reacted) \S{1,40} to (?:your|a) message\.?"),
    ("reaction", r"(?:Liked|{own} liked) (?:a|your) message\.?"),
    ("reaction", r"(?:Liked|{them} liked) your (?:photo|video|comment|" + _STORY + r")\.?"),
    (
        "reaction",
        r"(?:Reacted|{own} reacted) (?:\S{1,40} )?to " + _WHOSE + " " + _STORY + r"(?: with)?(?: \S{1,40})?\.?",
    ),
    ("story", r"(?:Mentioned|{own} mentioned) you in (?:a|an|" + _WHOSE + r") (?:comment|" + _STORY + r")\.?"),
    ("story", r"You mentioned {to} in your (?:comment|" + _STORY + r")\.?"),
    ("story", r"(?:Replied|{own} replied) to " + _WHOSE + " " + _STORY + r"\.?"),
    ("story", r"(?:Replied|{own} replied) to {to}['’]s? " + _STORY + r"\.?"),
    ("unsent", r"(?:{own}|User) (?:unsent|removed|deleted) a message\.?"),
    ("unsent", r"(?:This message was|A message was|A message has been|Message) unsent\.?"),
    ("call", r"{own} called (?:you|{to})\."),
    ("call", r"{own} missed an? " + _PLAIN_CALL + r" (?:from|with) {any}\."),
    ("call", r"{own} missed an? " + _CALL + r"(?: (?:from|with) {to})?\.?"),
    ("call", r"Missed (?:" + _CALL + r"|call)\.?"),
    ("call", r"Missed " + _CALL + r" (?:from|with) {to}\.?"),
    ("call", r"{one} (?:missed|declined|didn['’]t answer) your (?:group )?" + _PLAIN_CALL + r"\.?"),
    ("call", r"The " + _PLAIN_CALL + r" (?:has )?ended\."),
    ("call", r"(?:The )?(?:Group |group )?(?:[Vv]ideo|[Aa]udio|[Vv]oice) (?:call|chat) (?:has )?ended\.?"),
    ("call", r"Call ended\.?"),
    ("call", r"{own} (?:started|joined|left|ended) (?:an?|the) (?:group )?" + _PLAIN_CALL + r"\."),
    ("call", r"{own} started an? " + _CALL + r"\.?"),
    ("call", r"{them} (?:started|joined|left|ended) (?:an?|the) " + _PLAIN_CALL),
    ("call", r"{own} (?:started|stopped) sharing (?:video|(?:" + _WHOSE + r" )?(?:screen|(?:live )?location))\."),
    ("call", r"Live location (?:sharing )?(?:has )?ended\.?"),
    ("group", r"{any} (?:added .+ to|removed .+ from|left|created) the group\."),
    (
        "group",
        r"{any} added .+ to the (?:group|chat)\. (?:You|They|He|She) can only see messages sent after .+ (?:was|were) "
        r"added\.",
    ),
    ("group", r"{own} added (?:you|{to})(?:(?:, .+)? and .+)?\."),
    ("group", r"{own} created (?:the|this) group\.?"),
    ("group", r"(?:This|The) group was created\.?"),
    ("group", r"The group (?:name|photo|description) was (?:(?:set|changed) to .+|changed|updated|removed)\.?"),
    ("group", r"A contact added participants\."),
    ("group", r"{any} (?:named the group|changed the group name to) .+\."),
    ("group", r"{them} named the group .+"),
    ("group", r"{any} (?:changed|updated|removed) the group (?:photo|name|description|cover photo)\."),
    ("group", r"{any} (?:added|removed) .+ as an? (?:group )?admin\."),
    ("group", r"{any} made (?:you|{to}) an? (?:group )?admin\."),
    ("group", r"{to} (?:is|are) (?:now|no longer) an? (?:group )?admin\."),
    ("group", r"{any} turned on member approval and will review requests to join the group\."),
    ("group", r"{any} turned off member approval\. Anyone with the link can join the group\."),
    ("group", r"{own} turned (?:on|off) (?:member approval|(?:group )?link sharing|joining by link)\.(?: .+)?"),
    ("group", r"{own} turned (?:on|off) message sharing permissions(?: for this (?:chat|group))?\."),
    ("group", r"{own} changed who can .+\."),
    ("group", r"{any} waved hello to the group\."),
    ("group", r"{any} joined the (?:group|channel|chat)(?: (?:via|using|with|from) (?:the|an?|your)(?: \w+)? link)?\."),
    ("group", r"{any} (?:requested|asked) to join the group\."),
    ("group", r"{any} (?:approved|declined) .+ request to join the group\."),
    ("group", r"{any} invited .+ to (?:join )?the (?:group|channel)\."),
    ("group", r"{them} left(?: the (?:group|chat|conversation|channel))?\."),
    ("thread", r"{any} set (?:the nickname for .+|" + _WHOSE + r"(?: own)? nickname) to .+\."),
    ("thread", r"{them} set (?:the nickname for .+|" + _WHOSE + r"(?: own)? nickname) to .+"),
    ("thread", r"{any} (?:cleared|removed) (?:the nickname for .+|" + _WHOSE + r"(?: own)? nickname)\."),
    ("thread", r"{any} (?:set|changed) the (?:chat )?(?:emoji|quick reaction) to .{1,40}\."),
    ("thread", r"{any} removed the (?:emoji|quick reaction)\."),
    ("thread", r"{any} changed the (?:chat )?theme(?: using AI)?(?: to .+)?\.?"),
    ("thread", r"{any} (?:changed|removed) the (?:chat )?(?:wallpaper|background)(?: to .+)?\."),
    ("thread", r"{any} changed the chat colou?rs?(?: to .+)?\."),
    ("thread", r"{any} (?:un)?pinned (?:a|the|this) (?:message|photo|video|poll|post|reel|location|chat)\."),
    ("thread", r"{any} (?:added|set|changed|removed|created) (?:an?|the|\d+) word effects?(?: .+)?\."),
    ("thread", r"You(?:['’]re| are) (?:now )?(?:connected on Messenger|friends on Facebook)\.?"),
    ("thread", r"You and {to} are now (?:connected|friends)(?: on (?:Messenger|Facebook|Instagram))?\.?"),
    (
        "thread",
        r"You can now (?:message and call|message|call) each other(?: and see info like (?:A|a)ctive (?:S|s)tatus and "
        r"when you(?:.ve| have) read messages)?\.",
    ),
    ("thread", r"Say hi to your new Facebook friend, .+\."),
    ("thread", r"You waved at .+!"),
    ("thread", r"{own} waved at you!"),
    ("thread", r"This chat is read-only\."),
    ("thread", r"(?:This|Your other) (?:chat|conversation|group) (?:has been|was|is) (?:archived|closed|paused)\."),
    ("thread", r"An admin, moderator or host removed .+ message\."),
    ("thread", r"This account can['’]t receive your messages? because .+\."),
    ("thread", r"Not everyone can message this account\."),
    ("thread", r"You can['’]t (?:message|reply to) this (?:account|chat|conversation|group|person)(?: .+)?\."),
    ("thread", r"{to} (?:wasn|weren)['’]t notified about this message because .+ in quiet mode\."),
    ("thread", r"{own} turned (?:on|off) quiet mode\."),
    ("privacy", r"{own} (?:added|removed) an? (?:new )?device (?:to|from) this (?:conversation|chat)\."),
    ("privacy", r"(?:Your|{to}['’]s?) (?:security )?(?:keys? ha(?:s|ve)|code has|keys?|code) changed\."),
    (
        "privacy",
        r"(?:New messages|Messages)(?: and calls)?(?: in this (?:chat|conversation)| you send to this chat)? "
        r"(?:are|will be) (?:now )?" + _SECURED + r"\.(?: .+)?",
    ),
    ("privacy", r"This (?:chat|conversation|call) is (?:now )?(?:" + _SECURED + r"|end-to-end encrypted)\.(?: .+)?"),
    ("privacy", r"(?:Instagram|Messenger|Facebook|Meta) (?:upgraded|updated) the security of this chat\.(?: .+)?"),
    ("privacy", r"Disappearing messages (?:were|are|have been) (?:now )?(?:turned )?(?:on|off)\.(?: .+)?"),
    ("privacy", r"{own} turned (?:on|off) (?:disappearing messages|vanish mode)\.(?: .+)?"),
    ("privacy", r"{own} set (?:disappearing messages|messages to disappear|new messages to disappear) .+\."),
    ("privacy", r"{own} (?:changed|updated) the (?:disappearing messages?|message) timer(?: .+)?\."),
    ("privacy", r"(?:New m|M)essages will disappear .+\."),
    ("privacy", r"Vanish mode (?:is|was turned) (?:on|off)\.?"),
    ("privacy", r"{own} took a (?:screenshot|screen recording)(?: of .+)?\."),
    ("privacy", r"{own} recorded the screen\."),
    ("privacy", r"{them} (?:took a screenshot|recorded the screen)"),
    ("poll", r"{any} created a poll(?:: .+|\.)"),
    ("poll", r"{any} (?:voted|removed " + _WHOSE + r" vote) for .+ in the poll: .+"),
    ("poll", r"{any} changed " + _WHOSE + r" vote to .+ in the poll: .+"),
    ("poll", r"{any} (?:voted|removed " + _WHOSE + r" vote) for " + _QUOTED + r".* in the poll\."),
    ("poll", r"{any} changed " + _WHOSE + r" vote to " + _QUOTED + r".* in the poll\."),
    ("poll", r"{any} (?:added|removed) " + _QUOTED + r".* (?:to|from) the poll(?:: .+|\.)"),
    ("poll", r"(?:Your|{any}['’]s?) poll has (?:multiple|new|\d+) (?:updates?|votes?)\."),
    ("poll", r"(?:A|This|The) poll (?:has been|was|has|is) (?:unsent|closed|ended|deleted|no longer available)\."),
    ("poll", r"{own} (?:ended|closed|unsent|deleted) (?:a|the) poll\."),
    ("plan", r"{any} (?:started a plan|named the plan .+)\."),
    ("plan", r"{own} (?:created|updated|changed|deleted|cancell?ed|ended) (?:a|the) plan(?: .+)?\."),
    ("plan", r"{own} created an event(?:: .+|\.)"),
    ("plan", r"{them} responded(?: (?:Going|Maybe|Can['’]t Go)(?: to .+)?\.?)?"),
    ("plan", r"Reminder, .+ at \d{1,2}(?::\d\d)? ?[AP]M"),
    ("game", r"{any} scored [\d.,]+ points? playing .+\."),
    ("game", r"{any} (?:is|are) now in \w+ place in .+"),
    ("game", r"{any} challenged you in .+"),
    ("game", r"{any} played back, now it is your turn!"),
    ("listing", r"{any} changed the listing (?:title|price|description|location|photo)(?: to .+)?\."),
    ("payment", r"{own} (?:sent|requested) .{0,80}[$€£]\d[\d,]*\.\d\d(?: (?:to|from) {to})?\."),
    ("payment", r"{own} (?:sent|requested) (?:[$€£]\d[\d,]*|\d[\d,.]* ?[$€£]) (?:to|from) (?:you|{to})\."),
    ("payment", r"{own} sent you (?:[$€£]\d[\d,]*(?:\.\d\d)?|\d[\d,.]* ?[$€£])\."),
)

# Each line that a rule means has one of these: looking for them first costs half of looking for the rules.
HINTS = (
    r"[Ss]ent |[Ss]hared |eacted |iked |navailable|longer available|entioned |eplied to |unsent|removed |deleted a|"
    r"called |issed |your (?:group |video |audio |voice )*c(?:all|hat)|ended|(?:started|joined) |left(?: |\.)|"
    r"topped sharing|added |[Tt]h(?:e|is) group|admin\.|message sharing|member approval|link sharing|by link|"
    r"(?:who|everyone) can |can now |isappear|anish mode|nickname|pinned |word effect|on (?:Messenger|Facebook)|"
    r"the (?:chat )?(?:emoji|quick reaction|theme|wallpaper|background)|chat col|are now |Say hi|waved at|read-only|"
    r"(?:chat|conversation|group) (?:has|was|is) |(?:You|account) can['’]t |notified about|quiet mode|device |code |"
    r"keys? |end-to-end|security of|a screen|the screen|poll|a plan|the plan|an event|responded|Reminder, |scored |"
    r"place in |challenged you|played back|the listing|requested |changed |turned |created |named |cleared |invited |"
    r"accepted |updated |asked to|join the|the channel|message timer"
)
